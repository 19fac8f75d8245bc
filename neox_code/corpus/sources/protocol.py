"""The interface of a source: it lists its files in batches, each of which one process reads once.

    for source in find_sources(["local", "~/projects", "linux.tar.xz", "repositories.jsonl"]):
        for batch in source.batches(check):                  # picklable, in the order of the source
            for file, done in batch.read():
                print(file.project.name, file.path, file.num_bytes, file.content)

`check(project, path, num_bytes)` returns the reason why a file is not read, or None; unread files are listed with that reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Project:
    """A repository, with the facts known before its files are read."""

    name: str
    """`organization/project` where there is an organization."""
    language: str | None = None
    """One of LANGUAGES (or GDScript, Kotlin), if the name of a folder or a list states it."""
    stars: int | None = None
    license: str | None = None
    """An SPDX expression, if a list or dataset states it."""
    commit: str | None = None
    within: str | None = None
    """Name of the project at the source's root that contains this one; None for a git repository and for that project itself."""
    folder: str = ""
    """Path of the project below the source's root; empty for a project in the root."""


@dataclass(slots=True)
class FoundFile:
    """A file of a source, with its content if `check` returned None."""

    project: Project
    path: str
    """The printable path below the project."""
    num_bytes: int
    reason: str | None = None
    """The reason why the file has no content; None if it has content."""
    content: bytes | None = None
    has_path: bool = True
    """False for a dataset's row without a path: `path` is its place in the dataset."""
    edits: tuple[str, ...] = ()
    """Names of the changes made by the reader."""
    link: str | None = None
    """The target of a link that states a license, relative to the link's folder."""


FileCheck = Callable[[Project, str, int], str | None]
"""Returns the reason why a file (project, path, bytes) is not read; None if it is read."""


class Batch(Protocol):
    """Files of a source that one process reads; picklable and independent of other batches."""

    @property
    def num_bytes(self) -> int:
        """Number of bytes of progress that `read` reports in all."""
        ...

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        """Yield each file with the progress in units of `num_bytes`.

        A damaged or unreadable file has a reason; a damaged archive or repository is a FoundFile with an empty path.
        """
        ...


class Source(Protocol):
    def batches(self, check: FileCheck) -> Iterator[Batch]:
        """Yield the batches, in the same order for the same content of the source."""
        ...
