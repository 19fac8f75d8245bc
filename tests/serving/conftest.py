"""Servers in threads, and the JSON that they answer."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from generation.conftest import scripted  # noqa: F401
from generation.test_infilling import QWEN, byte_level
from scripted_checkpoint import KEYS

from neox_code.config.generation import GenerationConfig
from neox_code.config.model import ModelConfig
from neox_code.generation.generator import Generator
from neox_code.generation.loading import LoadedModel
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.serving.server import Server, open_listener
from neox_code.serving.service import Service


class Client:
    """Requests to a server of this process; `service` is its inside."""

    def __init__(self, service: Service, port: int):
        self.service, self.port = service, port
        self.url = f"http://127.0.0.1:{port}"

    def open(self, path: str, body: Any = None, **headers: str) -> Any:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **headers})
        return urllib.request.urlopen(request, timeout=30)

    def get_text(self, path: str, body: Any = None, **headers: str) -> str:
        with self.open(path, body, **headers) as response:
            return response.read().decode()

    def get(self, path: str, body: Any = None, **headers: str) -> Any:
        return json.loads(self.get_text(path, body, **headers))

    def get_events(self, path: str, body: Any) -> list[Any]:
        """The values of server-sent events; [DONE] stays text."""
        parts = self.get_text(path, body).split("\n\n")
        assert parts.pop() == "" and all(part.startswith("data: ") for part in parts)
        return [part[6:] if part == "data: [DONE]" else json.loads(part[6:]) for part in parts]

    def get_error(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and `error` of a request that is refused."""
        with pytest.raises(urllib.error.HTTPError) as raised:
            self.open(path, body, **headers)
        with raised.value as response:
            return response.status, json.loads(response.read())["error"]


@contextmanager
def serve(
    loaded: LoadedModel, section: GenerationConfig | None = None, *, key: str | None = None, **settings: Any
) -> Iterator[Client]:
    """Run a server until the end of the block."""
    limits = {name: settings.pop(name) for name in ("header_seconds", "body_seconds") if name in settings}
    service = Service(Generator(loaded, section or GenerationConfig(), seed=1), **settings)
    server = Server(service, key, drain_seconds=5, **limits)
    listener = open_listener("127.0.0.1", 0)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    try:
        yield Client(service, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        service.thread.join()


@pytest.fixture(scope="session")
def with_infilling() -> LoadedModel:
    """A random model with Qwen's infilling tokens."""
    tokenizer = byte_level(QWEN)
    model = ModelConfig(**KEYS | {"max_position_embeddings": 512})
    generator = torch.Generator().manual_seed(3)
    gpt = GPT(build_layers(model, tokenizer.vocab_size, 384, single_process_grid(), torch.float32)).eval()
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return LoadedModel(gpt, tokenizer, model, torch.device("cpu"), torch.float32, Path("global_step1"))


@pytest.fixture(scope="session")
def infilling_client(with_infilling: LoadedModel) -> Iterator[Client]:
    with serve(with_infilling) as client:
        yield client


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    return serve


@pytest.fixture(scope="session")
def client(scripted: LoadedModel) -> Iterator[Client]:  # noqa: F811
    with serve(scripted) as client:
        yield client
