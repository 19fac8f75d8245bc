"""Documents taken as they are, without recipe or filter: a folder's files.

    files = list_files("src")
    for document in iter_files("src", files.paths):
        print(document.path, len(document.text))

Texts are UTF-8 and kept to the byte: line ends, tabs, and a byte-order mark (as U+FEFF).
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from neox_code.corpus.shards import Document
from neox_code.errors import DataError

UNKNOWN_LANGUAGE = "unknown"


@dataclass
class FileList:
    """The files of a folder that become documents, and how many do not, by reason."""

    paths: list[Path] = field(default_factory=list)
    num_bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def list_files(folder: str | os.PathLike[str]) -> FileList:
    """Every regular, non-empty file below the folder, in the order of their paths, component by component.

    Raises DataError where there is none.
    """
    files = FileList()
    for entry in entries_below(folder):
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            files.left_out["links and special files"] += 1
        elif status.st_size == 0:
            files.left_out["empty files"] += 1
        else:
            files.paths.append(Path(entry.path))
            files.num_bytes += status.st_size
    if not files.paths:
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(files.left_out.items())) or "nothing"
        raise DataError(f"{folder} has no file with content (found: {found}). Name a folder of source files.")
    return files


def entries_below(folder: str | os.PathLike[str]) -> Iterator["os.DirEntry[str]"]:
    """All but folders, in path order, through folders of any depth."""
    stack = [iter(sorted_entries(folder))]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
        elif entry.is_dir(follow_symlinks=False):
            stack.append(iter(sorted_entries(entry.path)))
        else:
            yield entry


def sorted_entries(folder: str | os.PathLike[str]) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as scan:
        return sorted(scan, key=lambda entry: entry.name)


def iter_files(folder: str | os.PathLike[str], paths: Iterable[Path]) -> Iterator[Document]:
    """A document for each of the paths below the folder. Raises DataError for a file that is not UTF-8."""
    for path in paths:
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not UTF-8: byte 0x{data[error.start]:02X} at {error.start:,}. "
                "Convert or remove the file, or build a corpus of the folder with tools/build_corpus.py."
            ) from None
        yield raw_document(text, os.fspath(folder), path.relative_to(folder).as_posix(), data)


def raw_document(text: str, repository: str, path: str, data: bytes) -> Document:
    return Document(text, UNKNOWN_LANGUAGE, repository, path, hashlib.sha256(data).hexdigest(), len(data), split="train")
