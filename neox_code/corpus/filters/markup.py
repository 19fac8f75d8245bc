"""Filters for markup, with StarCoder's thresholds (Li et al. 2023, section 3.1); The Stack v2 has the same for HTML."""

import re
from dataclasses import dataclass
from html import unescape
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate


@dataclass(frozen=True)
class NotXml:
    """Drop XML files with another suffix: those with `<?xml version=` in the first 100 characters, except XSLT.

    >>> NotXml().keep(Candidate("form.ts", "TypeScript", 50, '<?xml version="1.0"?><TS></TS>'))
    'XML'
    """

    exempt: tuple[str, ...] = ("XSLT",)
    name = "not XML"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return file.language in self.exempt or "<?xml version=" not in file.text[:100] or "XML"


@dataclass(frozen=True)
class VisibleHtml:
    """Drop HTML that shows less than `fraction` of its characters as text, or fewer than `characters`; other languages are kept.

    >>> VisibleHtml(0.2, 100).keep(Candidate("x.html", "HTML", 50, "<p>Hello</p><script>let x = 1</script>"))
    'under 20% visible text'
    """

    fraction: float = 0.2
    characters: int = 100
    name = "visible text of HTML"

    def keep(self, file: Candidate) -> Literal[True] | str:
        if file.language != "HTML":
            return True
        visible = count_visible_characters(file.text)
        if visible < self.fraction * len(file.text):
            return f"under {self.fraction:.0%} visible text"
        return visible >= self.characters or f"under {self.characters} characters of visible text"


NOT_VISIBLE = re.compile(
    r"<!--(?:.*?-->|.*)|<(script|style)\b.*?(?:</\1\b[^>]*(?:>|\Z)|\Z)|<[/!?a-z][^>]*(?:>|\Z)", re.DOTALL | re.IGNORECASE
)
"""Comments, scripts, styles and tags, also if they are not closed. A `>` in an attribute ends the tag."""


def count_visible_characters(html: str) -> int:
    return len(unescape(NOT_VISIBLE.sub("", html)))
