"""Fixtures: the logged messages, and a small corpus on disk."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_corpus import write_documents

from neox_code.corpus.shards import KEPT, CorpusSummary, Count, Document, write_summary
from neox_code.logs import get_logger


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Yield a list of the messages logged so far."""
    get_logger("tests")
    root = logging.getLogger("neox_code")
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    root.addHandler(handler)
    yield messages
    root.removeHandler(handler)


def document(language: str, path: str, text: str, split: str = "test") -> Document:
    data = text.encode()
    return Document(text, language, "someone/project", path, hashlib.sha256(data).hexdigest(), len(data), split)


DOCUMENTS = [
    *(document("Python", f"module{number}.py", f"# file {number}\n" + "value = 1\n" * 100) for number in range(5)),
    document("Python", "short.py", "x = 1\n"),
    document("Python", "marked.py", "# \x1e\n" + "y = 2\n" * 200),
    document("Python", "trained_on.py", "# seen\n" + "z = 3\n" * 200, split="train"),
    document("C", "wide.c", "int x[] = {" + "0," * 2000 + "};\n"),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus folder of DOCUMENTS."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    shards = write_documents(folder, DOCUMENTS)
    counts = tuple(Count(file.language, KEPT, file.split, 1, file.num_bytes, 1, 0) for file in DOCUMENTS)
    write_summary(folder, CorpusSummary("polycoder", {"sources": ["local"]}, counts, shards))
    return folder
