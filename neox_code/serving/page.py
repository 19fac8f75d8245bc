"""The page at /: an editor for code whose completions come from /v1/completions of the same server.

    app.include_router(make_router())

The page loads nothing from elsewhere, and its Content-Security-Policy allows its own style and script alone, by their digests.
"""

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

PAGE = Path(__file__).with_name("page.html")


def make_router() -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()
    html = PAGE.read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": make_policy(html),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }

    @router.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    return router


def make_policy(html: str) -> str:
    """Return the Content-Security-Policy of a page with one style and one script, which may send requests to its server alone."""
    digests = {}
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digests[tag] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    sources = "; ".join(f"{tag}-src 'sha256-{digest}'" for tag, digest in digests.items())
    return f"default-src 'none'; {sources}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
