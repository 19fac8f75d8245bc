"""Serve a model over HTTP until a signal: `run_server(config, host, port)`."""

import asyncio
import os
import socket
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.generation.generator import Generator
from neox_code.generation.loading import load_model
from neox_code.logs import get_logger
from neox_code.serving.app import BODY_SECONDS, make_app
from neox_code.serving.service import MODEL_NAME, Service

log = get_logger(__name__)

HOST, PORT = "127.0.0.1", 8012
API_KEY = "NEOX_CODE_API_KEY"
"""Environment variable with the key that clients must send."""

DRAIN_SECONDS = 30
HEADER_SECONDS = 10
BACKLOG = 1024


def run_server(config: NeoXConfig, host: str = HOST, port: int = PORT, model_name: str = MODEL_NAME) -> None:
    """Load the model and answer requests until SIGINT or SIGTERM. Raise ConfigError if the address cannot be used."""
    listener = open_listener(host, port)
    service = Service(Generator(load_model(config, serves=True), config.generation, config.training.seed), model_name)
    server = Server(service, os.environ.get(API_KEY))
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    key = f"with the key in {API_KEY}" if os.environ.get(API_KEY) else f"without a key ({API_KEY} is not set)"
    if service.loaded.adapters:
        log.info("adapters, by the field `model` of a request: %s", ", ".join(service.loaded.adapters))
    log.info("serving %s at %s, %s; Ctrl-C ends it", model_name, address, key)
    server.run([listener])


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; connections wait there until the server accepts them."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--host {host} --port {port} cannot be used: {error}. Choose another address or port.") from None


class TimedConnection(H11Protocol):
    """Close a connection if the headers of a request are not there `timeout_keep_alive` seconds after it begins."""

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.deadline = self.loop.call_later(self.timeout_keep_alive, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.end_deadline()
        elif self.deadline is None:
            self.deadline = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end_deadline()
        super().connection_lost(exc)

    def end_deadline(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


class Server(uvicorn.Server):
    """HTTP server. After the first signal it refuses new requests and ends when all open ones are answered; a second signal ends it
    at once.
    """

    def __init__(
        self,
        service: Service,
        api_key: str | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        header_seconds: int = HEADER_SECONDS,
        body_seconds: float = BODY_SECONDS,
    ):
        app = make_app(service, api_key, body_seconds=body_seconds)
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "timeout_graceful_shutdown": 5}
        super().__init__(uvicorn.Config(app, http=TimedConnection, backlog=BACKLOG, timeout_keep_alive=header_seconds, **options))
        self.service, self.drain_seconds = service, drain_seconds
        self.draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.draining is None:
            self.draining = asyncio.get_running_loop().create_task(self.drain())
        else:
            self.should_exit = self.force_exit = True

    async def drain(self) -> None:
        await self.service.thread.drain(self.drain_seconds)
        self.should_exit = True

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.thread.start()
        try:
            await super().serve(sockets)
        finally:
            self.service.thread.stop()
