"""What a source of files is: something that lists its files in batches, each of which one process reads once.

    for source in find_sources(["local", "~/projects", "linux.tar.xz", "repositories.jsonl"]):
        for batch in source.batches(judge):                  # picklable pieces of work, in an order of their own
            for file, done in batch.read():
                print(file.project.name, file.path, file.num_bytes, file.content)

`judge(project, path, num_bytes)` says by name and size why a file is not wanted (None: it is); such files are listed and not read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Project:
    """A repository, and what is known of it before its files are read."""

    name: str
    """`organization/project` where there is an organization."""
    language: str | None = None
    """One of LANGUAGES (or GDScript, Kotlin), where a folder's name or a list says so."""
    stars: int | None = None
    license: str | None = None
    """An SPDX expression, where a list or dataset says so."""
    commit: str | None = None
    within: str | None = None
    """The project of the source's root, by name, if this is a folder or file below it and no git repository of its own."""
    folder: str = ""
    """Its path below that root; empty for a file in the root."""


@dataclass(slots=True)
class FoundFile:
    """A file of a source, with its content where `judge` wanted it."""

    project: Project
    path: str
    """Below the project; printable in any case."""
    num_bytes: int
    reason: str | None = None
    """Why it has no content, if it has none."""
    content: bytes | None = None
    has_path: bool = True
    """False for a dataset's row without a path: `path` is its place in the dataset."""
    edits: tuple[str, ...] = ()
    """What reading has changed."""
    link: str | None = None
    """The target of a link that states a license, relative to the link's folder."""


Judge = Callable[[Project, str, int], str | None]


class Batch(Protocol):
    """A part of a source that one process reads; picklable and independent of all others."""

    @property
    def num_bytes(self) -> int:
        """The amount of work in it, which progress reaches at the end."""
        ...

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        """Yields each file, and how far the work has come, in units of `num_bytes`.

        What is damaged or cannot be read is a FoundFile with a reason (of the whole archive or repository: with an empty path).
        """
        ...


class Source(Protocol):
    @property
    def languages(self) -> frozenset[str] | None:
        """The languages taken from it; None for all of the recipe's."""
        ...

    def batches(self, judge: Judge) -> Iterator[Batch]:
        """In the same order for the same content of the source."""
        ...
