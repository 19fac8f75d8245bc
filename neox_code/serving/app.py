"""The application: routes of all dialects, the API key, limits of a request, and errors in the shape of the client's dialect.

    app = make_app(service, api_key=None)

A router of further pages is added with `app.include_router`.
"""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neox_code.serving import llama_cpp_dialect, openai_dialect, page
from neox_code.serving.engine_thread import DrainingError, EngineError, QueueFullError
from neox_code.serving.service import RequestError, Service

MAXIMUM_BODY_BYTES = 8 << 20
DISCARDED_PARTS = 8
"""A body that is too large is received up to this number times `maximum_body_bytes`, and then refused."""
MAXIMUM_BODIES = 32
"""The bodies that are being received have at most the size of this number of maximal ones together."""
BODY_SECONDS = 60
RETRY_SECONDS = 1
PUBLIC_PATHS = ("/", "/health", "/v1/health")
"""Paths without an API key."""

OPENAI_PATH = re.compile(r"/v1/|/models|/completions|/copilot_internal/")
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "unavailable_error"}


def make_app(
    service: Service,
    api_key: str | None = None,
    maximum_body_bytes: int = MAXIMUM_BODY_BYTES,
    body_seconds: float = BODY_SECONDS,
) -> FastAPI:
    """Return the application of a service. With `api_key`, all paths but PUBLIC_PATHS need it."""
    app = FastAPI(title="neox-code", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(Exception, answer_error)
    for error in (RequestError, RequestValidationError, ValidationError, HTTPException, QueueFullError, DrainingError, EngineError):
        app.add_exception_handler(error, answer_error)
    app.add_middleware(Guard, service=service, api_key=api_key, maximum_body_bytes=maximum_body_bytes, body_seconds=body_seconds)
    app.include_router(openai_dialect.make_router(service))
    app.include_router(page.make_router())
    app.include_router(llama_cpp_dialect.make_router(service))

    @app.post("/completions")
    async def complete(body: dict[str, Any], http: HttpRequest) -> Response:
        """Both dialects have this address. A body with `n_predict` is in llama.cpp's dialect."""
        dialect = llama_cpp_dialect if "n_predict" in body else openai_dialect
        return await dialect.answer_completion(service, body, http)

    @app.get("/health")
    @app.get("/v1/health")
    async def report_health() -> Response:
        is_ready = not service.thread.is_draining and service.thread.is_alive()
        return JSONResponse({"status": "ok" if is_ready else "stopping"}, 200 if is_ready else 503)

    @app.get("/metrics")
    async def report_metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def answer_error(http: HttpRequest, error: Exception) -> JSONResponse:
    """Return an error in the shape of the dialect, with the name of the field that is wrong."""
    param = None
    if isinstance(error, QueueFullError):
        status, message = 429, "the queue is full. Try again later."
    elif isinstance(error, DrainingError):
        status, message = 503, "the server is stopping."
    elif isinstance(error, (RequestValidationError, ValidationError)):
        status, (param, message) = 400, describe_validation(error)
    elif isinstance(error, RequestError):
        status, message, param = error.status, str(error), error.param
    elif isinstance(error, HTTPException):
        status, message = error.status_code, str(error.detail)
    else:
        status, message = 500, f"the server failed: {error}" if isinstance(error, EngineError) else "the server failed."
    return make_error(http.url.path, status, message, param)


def make_error(path: str, status: int, message: str, param: str | None = None) -> JSONResponse:
    """Return an error response; `code` is the status in llama.cpp's dialect and a text or null in OpenAI's."""
    is_openai = OPENAI_PATH.match(path) is not None
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = ("invalid_api_key" if status == 401 else None) if is_openai else status
    headers = (
        {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {"WWW-Authenticate": "Bearer"} if status == 401 else None
    )
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)


def describe_validation(error: RequestValidationError | ValidationError) -> tuple[str | None, str]:
    """Return the first wrong field and a message about it."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return None, f"the body is not JSON: {first['ctx']['error']} at character {names[0]}."
    if isinstance(error, RequestValidationError):
        return None, "the body must be a JSON object, sent with the header Content-Type: application/json."
    return names[0], f"{'.'.join(names)}: {first['msg']}."


class Guard:
    """Check the API key, the size and the time of a request before it is parsed, and count the responses.

    FastAPI's own size limit is not used: its answer is in no dialect's shape, and it closes a connection on which the client still
    sends.
    """

    def __init__(self, app: ASGIApp, service: Service, api_key: str | None, maximum_body_bytes: int, body_seconds: float):
        self.app, self.service, self.api_key = app, service, api_key
        self.maximum_body_bytes, self.body_seconds = maximum_body_bytes, body_seconds
        self.num_bytes = 0
        """Bytes of the bodies that are being received."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status = None

        async def count_and_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        refusal, body = self.check_key(scope["path"], headers), b""
        if refusal is None and scope["method"] == "POST":
            refusal, body = await self.read_body(scope["path"], receive)
        try:
            await (refusal or self.app)(scope, replay(body, receive), count_and_send)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.service.metrics.requests.labels(path, status or "dropped").inc()

    def check_key(self, path: str, headers: dict[str, str]) -> Response | None:
        """Return the error response to a request without the API key; None if the key is right or not needed."""
        given = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
        if not self.api_key or path in PUBLIC_PATHS or hmac.compare_digest(given.encode(), self.api_key.encode()):
            return None
        return make_error(path, 401, "the API key is missing or wrong. Send it as Authorization: Bearer KEY.")

    async def read_body(self, path: str, receive: Receive) -> tuple[Response | None, bytes]:
        """Return the body, or an error if it is too large. Such a body is received too, so that the client reads the error.

        A body that is too slow, or for which there is no memory, ends the connection after the error.
        """
        parts: list[bytes] = []
        size, is_complete, error = 0, False, None
        try:
            async with asyncio.timeout(self.body_seconds):
                while not is_complete and size <= DISCARDED_PARTS * self.maximum_body_bytes:
                    message = await receive()
                    part, is_complete = message.get("body", b""), not message.get("more_body")
                    size += len(part)
                    if size <= self.maximum_body_bytes:
                        parts.append(part)
                        self.num_bytes += len(part)
                    if self.num_bytes > MAXIMUM_BODIES * self.maximum_body_bytes:
                        error = make_error(path, 429, "the server receives too many large requests. Try again later.")
                        break
        except TimeoutError:
            error = make_error(path, 408, f"the request did not arrive in {self.body_seconds:g} s.")
        self.num_bytes -= sum(map(len, parts))
        if error is None and size > self.maximum_body_bytes:
            error = make_error(path, 413, f"the request is larger than {self.maximum_body_bytes:,} bytes. Shorten it.")
        if error is not None and not is_complete:
            error.headers["Connection"] = "close"
        return error, b"" if error else b"".join(parts)


def replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Any]]:
    """Return a `receive` function: the first call returns the body, which has been read; the next ones wait until the client
    disconnects.
    """
    is_read = False

    async def receive_again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
