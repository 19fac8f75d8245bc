"""List the files of a folder that are tokenized as documents, without a recipe and without filters.

list_files("src").paths
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from neox_code.corpus.sources.datasets import is_shard_name
from neox_code.errors import DataError

UNKNOWN_LANGUAGE = "unknown"


@dataclass
class FileList:
    """The files of a folder that are tokenized as documents, and the number of other files by reason."""

    paths: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def list_files(folder: str | os.PathLike[str]) -> FileList:
    """Return all regular files with content below the folder, sorted by the components of their paths.

    Raise DataError if there is no such file.
    """
    files = FileList()
    for entry in read_entries(folder):
        status = entry.stat(follow_symlinks=False)
        if entry.name == ".git":
            files.left_out["git folders"] += 1
        elif is_shard_name(entry.name):
            files.left_out["dataset files (give them as inputs of their own to read their rows)"] += 1
        elif not stat.S_ISREG(status.st_mode):
            files.left_out["links and special files"] += 1
        elif status.st_size == 0:
            files.left_out["empty files"] += 1
        else:
            files.paths.append(Path(entry.path))
    if not files.paths:
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(files.left_out.items())) or "nothing"
        raise DataError(f"{folder} has no file with content (found: {found}). Expected: a folder of source files.")
    return files


def read_entries(folder: str | os.PathLike[str]) -> Iterator["os.DirEntry[str]"]:
    """Yield the files below the folder at any depth, in the order of their paths. A folder .git is yielded as one entry."""
    stack = [iter(list_sorted_entries(folder))]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
        elif entry.name != ".git" and entry.is_dir(follow_symlinks=False):
            stack.append(iter(list_sorted_entries(entry.path)))
        else:
            yield entry


def list_sorted_entries(folder: str | os.PathLike[str]) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as scan:
        return sorted(scan, key=lambda entry: entry.name)
