"""The interface of a source: it lists its files in batches, each of which one process reads once.

    for source in find_sources(["local", "~/projects", "linux.tar.xz", "repositories.jsonl"]):
        for batch in source.batches(check):                  # picklable, in the order of the source
            for file, done in batch.read():
                print(file.project.name, file.path, file.num_bytes, file.content)

`check(project, path, num_bytes)` returns None for a file that is read, else the reason why it is not read. Such a file is yielded
with the reason and without content.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Project:
    """A repository or package, with what is known before its files are read."""

    name: str
    """`organization/project`, or `project` without an organization."""
    language: str | None = None
    """Language of the project, if the name of a folder or a repository list states it."""
    stars: int | None = None
    license: str | None = None
    """An SPDX expression, if a list or dataset states it."""
    commit: str | None = None
    within: str | None = None
    """Name of the project in the source's root, if this project is in a folder below the root; else None."""
    folder: str = ""
    """Path of the project below the source's root; empty for a project in the root."""


@dataclass(slots=True)
class FoundFile:
    """A file of a source, with its content if `check` returned None."""

    project: Project
    path: str
    """Path in the project, with unprintable characters escaped."""
    num_bytes: int
    reason: str | None = None
    """The reason why the file has no content; None if it has content."""
    content: bytes | None = None
    has_path: bool = True
    """False for a dataset's row without a path: `path` is then the place of the row in the dataset."""
    edits: tuple[str, ...] = ()
    """Names of the changes that reading the source made to the content."""
    link: str | None = None
    """If the file is a link with the name of a license file: the target, relative to the link's folder."""


FileCheck = Callable[[Project, str, int], str | None]
"""Function that returns the reason why a file (project, path, size in bytes) is not read; None if it is read."""


class Batch(Protocol):
    """Files of a source that one process reads; picklable and independent of other batches."""

    @property
    def num_bytes(self) -> int:
        """Total progress that `read` reports, in bytes."""
        ...

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        """Yield each file with the number of bytes read so far.

        A damaged or unreadable file has a reason. For a damaged archive or repository, a FoundFile with an empty path is yielded.
        """
        ...


class Source(Protocol):
    def batches(self, check: FileCheck) -> Iterator[Batch]:
        """Yield the batches of the source. The same content gives the same batches in the same order."""
        ...
