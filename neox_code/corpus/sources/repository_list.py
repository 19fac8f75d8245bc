"""Lists of repositories (repositories.jsonl): each is cloned where it is read, and removed again.

    source = RepositoryList((Path("repositories.jsonl"),), filters=(MinStars(50),))

    {"name": "torvalds/linux", "url": "https://github.com/torvalds/linux.git", "language": "C", "stars": 200000, "license": ...}

A batch is several small repositories or one, cloned a few at a time ahead of the reading. One that cannot be had, or that a filter
leaves out, is a file without path that says why. A repository that several lines or lists name is read once, by the first of them.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from neox_code.corpus.sources.batches import BATCH_BYTES
from neox_code.corpus.sources.clone import COMMIT, CloneError, CloneLimits, clone, partial_clone, remove
from neox_code.corpus.sources.columns import license_expression, spelled, whole_number
from neox_code.corpus.sources.compressed import Damage, until_damaged
from neox_code.corpus.sources.git import GitSource, UnreadableRepository, find_head
from neox_code.corpus.sources.json_lines import lines_of, parsed
from neox_code.corpus.sources.layout import is_bare_repository
from neox_code.corpus.sources.names import archive_stem, language_named, member_path, printable
from neox_code.corpus.sources.protocol import Batch, FoundFile, Judge, Project

REPOSITORIES_AT_ONCE = 4
REPOSITORIES_IN_BATCH = 16
UNKNOWN_KIB = 1024
LARGEST_KIB = 2**50
DAMAGED_LINE = "damaged line of a repository list"
CANNOT_BE_CLONED = "cannot be cloned"
SCHEME_AND_USER = re.compile(r"[a-z]+://([^/]*@)?")
LONGEST_CLONE_NAME = 160
"""Bytes, so that with what tells a clone on its way from others (host, process) it is still the name of a folder."""


class RepositoryRule(Protocol):
    """What a recipe's filters of repositories have in common."""

    def keep(self, row: Mapping[str, Any]) -> Literal[True] | str: ...


@dataclass(frozen=True)
class Listed:
    """A repository of a list."""

    project: Project
    address: str
    num_bytes: int
    commit: str | None = None
    """The one to read, where the list says so."""
    reason: str | None = None
    """Why it is not to be cloned."""


@dataclass(frozen=True)
class RepositoryList:
    paths: tuple[Path, ...]
    filters: Sequence[RepositoryRule] = ()
    limits: CloneLimits = field(default_factory=CloneLimits)
    clones: Path | None = None
    """Where repositories are cloned into, and those of a run that was killed are found; None: the system's temporary folder."""
    keep_clones: bool = False
    """Whether they stay there once they are read."""
    languages: frozenset[str] | None = None

    def batches(self, judge: Judge) -> Iterator[Batch]:
        group: list[Listed] = []
        for repository in self.repositories():
            size = sum(other.num_bytes for other in group)
            if group and (len(group) == REPOSITORIES_IN_BATCH or size + repository.num_bytes > BATCH_BYTES):
                yield RepositoryBatch(tuple(group), self, judge)
                group = []
            group.append(repository)
        if group:
            yield RepositoryBatch(tuple(group), self, judge)

    def repositories(self) -> Iterator[Listed]:
        """Those of the lists in their order, each once."""
        seen = set()
        for path in self.paths:
            for repository in self._lines(path):
                if repository.address:
                    name = clone_name(repository.address)
                    if name in seen:
                        continue
                    seen.add(name)
                yield repository

    def _lines(self, path: Path) -> Iterator[Listed]:
        list_name = printable(archive_stem(path.name))
        for number, line in enumerate(until_damaged(lines_of(path, 0, None), path), 1):
            if isinstance(line, Damage):
                reason = f"repository list is damaged after {number - 1:,} lines: {line.words}"
                yield Listed(Project(list_name), "", 0, reason=reason)
                return
            if not line[1].isspace():
                yield self._listed(line[1]) or Listed(Project(f"{list_name}:{number}"), "", 0, reason=DAMAGED_LINE)

    def _listed(self, line: bytes) -> Listed | None:
        """What a line says; None of one that is damaged."""
        row = parsed(line) or {}
        if not isinstance(row.get("url"), str):
            return None
        address = row["url"].strip()
        try:
            name = spelled(row.get("name")) or project_at(address)
        except ValueError:
            return None
        row |= {field: whole_number(row.get(field)) for field in ("stars", "commits", "size_kib")}
        row["license"] = license_expression(row.get("license"))
        language = spelled(row.get("language"))
        project = Project(name, language and (language_named(language) or language), row["stars"], row["license"])
        kib = row["size_kib"]
        num_bytes = 1024 * (UNKNOWN_KIB if kib is None else min(max(kib, 1), LARGEST_KIB))
        commit = COMMIT.fullmatch(spelled(row.get("commit")) or "")
        return Listed(project, address, num_bytes, commit and commit[0], self._refused(row))

    def _refused(self, row: Mapping[str, Any]) -> str | None:
        return next((reason for rule in self.filters if (reason := rule.keep(row)) is not True), None)


def project_at(address: str) -> str:
    """A repository's name by its address.

    >>> project_at("https://github.com/torvalds/linux.git"), project_at("git@github.com:torvalds/linux.git")
    ('torvalds/linux', 'torvalds/linux')
    """
    path = member_path(urlsplit(address).path if "://" in address else address.rpartition(":")[2])
    return "/".join(path.removesuffix(".git").split("/")[-2:]) or printable(address)


def clone_name(address: str) -> str:
    """The path of a repository's clone among the others, one for the spellings of an address; of a long one a hash.

    >>> clone_name("https://me@GitHub.com/torvalds/linux/"), clone_name("file:///srv/linux.git")
    ('github.com/torvalds/linux.git', 'localhost/srv/linux.git')
    >>> clone_name("https://example.org/" + "a/" * 3_000)
    'long/4fd8bd014fc37d56dd47d960551a309af2036c87bb3dde524324ed7f837577a8.git'
    """
    host, _, path = SCHEME_AND_USER.sub("", address, count=1).partition("/")
    name = member_path(f"{host.lower() or 'localhost'}/{path}").removesuffix(".git")
    if len(name.encode()) > LONGEST_CLONE_NAME:
        name = f"long/{hashlib.sha256(name.encode()).hexdigest()}"
    return f"{name}.git"


@dataclass(frozen=True)
class RepositoryBatch:
    repositories: tuple[Listed, ...]
    source: RepositoryList
    judge: Judge

    @property
    def num_bytes(self) -> int:
        return sum(repository.num_bytes for repository in self.repositories)

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        done = 0
        with self._cloning() as clones:
            for repository, folder in clones:
                for file in read_clone(repository, folder, self.judge):
                    yield file, done
                done += repository.num_bytes
                if not self.source.keep_clones and not isinstance(folder, CloneError):
                    remove(folder)

    @contextmanager
    def _cloning(self) -> Iterator[Iterator[tuple[Listed, "Path | CloneError"]]]:
        """The repositories in order with the folders they are cloned into, a few of them ahead of the one in hand."""
        stopped = Event()
        with TemporaryDirectory(prefix="neox-clones-") as temporary, ThreadPoolExecutor(REPOSITORIES_AT_ONCE) as threads:
            futures: list[Future[Path | CloneError]] = []

            def clones() -> Iterator[tuple[Listed, Path | CloneError]]:
                for index, repository in enumerate(self.repositories):
                    for number in range(len(futures), min(index + REPOSITORIES_AT_ONCE, len(self.repositories))):
                        folder = self._folder(self.repositories[number], Path(temporary) / str(number))
                        futures.append(threads.submit(self._clone, self.repositories[number], folder, stopped))
                    yield repository, futures[index].result()

            try:
                yield clones()
            finally:
                stopped.set()
                for future in futures:
                    future.cancel()

    def _folder(self, repository: Listed, temporary: Path) -> Path:
        return temporary if self.source.clones is None else self.source.clones / clone_name(repository.address)

    def _clone(self, repository: Listed, folder: Path, stopped: Event) -> "Path | CloneError":
        if repository.reason is not None:
            return CloneError(repository.reason)
        if is_clone(folder, repository.commit):
            return folder
        if repository.num_bytes > self.source.limits.max_listed_bytes:
            return CloneError(f"{CANNOT_BE_CLONED}: larger than {self.source.limits.max_listed_bytes:,} bytes")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = partial_clone(folder)
            clone(repository.address, partial, self.source.limits, repository.commit, stopped)
        except CloneError as error:
            return CloneError(f"{CANNOT_BE_CLONED}: {error}")
        remove(folder)
        partial.rename(folder)
        return folder


def is_clone(folder: Path, commit: str | None) -> bool:
    """Whether there is a repository, its objects with it, and the commit at its HEAD where one is asked for."""
    if not is_bare_repository(folder):
        return False
    try:
        _, head = find_head(folder)
    except UnreadableRepository:
        return False
    return commit in (None, head)


def read_clone(repository: Listed, folder: "Path | CloneError", judge: Judge) -> Iterator[FoundFile]:
    if isinstance(folder, CloneError):
        yield FoundFile(repository.project, "", 0, str(folder))
        return
    for batch in GitSource(repository.project, folder).batches(judge):
        for file, _ in batch.read():
            yield file
