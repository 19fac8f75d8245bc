"""Configuration files for the tests of the configuration."""

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file into the test's folder and returns its path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def shape() -> dict[str, int]:
    """The keys that every configuration needs."""
    return {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
