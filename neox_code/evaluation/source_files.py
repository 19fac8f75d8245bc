"""The source code of a folder, repository or archive as documents: `read_source_files("my-project.tar.gz")`."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from neox_code.corpus.languages.text_encoding import detect_and_decode
from neox_code.corpus.linguist.detect import detect
from neox_code.corpus.linguist.tables import GROUP, LANGUAGE_TYPES
from neox_code.corpus.shards import Document
from neox_code.corpus.sources.find import find_sources
from neox_code.corpus.sources.protocol import FoundFile, Project
from neox_code.logs import get_logger

log = get_logger(__name__)

LARGEST_FILE = 2**20


def iterate_files(places: Sequence[str | Path], largest: int) -> Iterator[FoundFile]:
    """Yield the files of folders, repositories and archives; one of more than `largest` bytes has a reason and no content.

    Raise DataError if a path does not exist or is not a source.
    """
    for source in find_sources(places):
        for batch in source.batches(partial(check_size, largest)):
            for file, _ in batch.read():
                yield file


def read_source_files(path: str | Path) -> list[Document]:
    """Return the files in programming languages, each content once, in the order of their paths; log the other files by reason.

    Raise DataError if the path does not exist or is not a source.
    """
    documents: dict[str, Document] = {}
    reasons: Counter[str] = Counter()
    for file in iterate_files([path], LARGEST_FILE):
        if file.content is None:
            reasons[file.reason or "unreadable"] += 1
            continue
        text, _ = detect_and_decode(file.content)
        detected = (text and detect(file.path, text)) or ""
        language = GROUP.get(detected, detected)
        if text is None or not language or LANGUAGE_TYPES[language] != "programming":
            reasons["not a programming language"] += 1
            continue
        digest = hashlib.sha256(file.content).hexdigest()
        if digest in documents:
            reasons["exact duplicate"] += 1
        size = len(text.encode("utf-8", "replace"))
        documents.setdefault(digest, Document(text, language, file.project.name, file.path, digest, size, "test"))
    if reasons:
        log.info("files of %s that are not read: %s", path, ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()))
    return list(documents.values())


def check_size(largest: int, project: Project, path: str, num_bytes: int) -> str | None:
    return f"over {largest >> 20} MiB" if num_bytes > largest else None
