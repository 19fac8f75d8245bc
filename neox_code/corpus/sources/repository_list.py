"""Lists of repositories (repositories.jsonl). Each repository is cloned, read, and removed.

    source = RepositoryList((Path("repositories.jsonl"),), filters=(MinStars(50),))

    {"name": "torvalds/linux", "url": "https://github.com/torvalds/linux.git", "language": "C", "stars": 200000, "license": ...}

A batch is one repository or several small ones. While a repository is read, the next ones are cloned. For a repository that cannot
be cloned or that a filter drops, a file with an empty path and the reason is yielded. A repository in several lines or lists is
read once; its first line is used.
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
from neox_code.corpus.sources.clone import COMMIT, CloneError, CloneLimits, clone, make_partial_folder, remove_clone
from neox_code.corpus.sources.columns import join_license_values, parse_count, read_name
from neox_code.corpus.sources.compressed import Damage, yield_with_damage
from neox_code.corpus.sources.folder_layout import is_bare_repository
from neox_code.corpus.sources.git import GitSource, UnreadableRepository, find_head
from neox_code.corpus.sources.json_lines import parse_row, read_lines
from neox_code.corpus.sources.protocol import Batch, FileCheck, FoundFile, Project
from neox_code.corpus.sources.source_names import clean_member_path, drop_suffixes, find_language, make_printable

REPOSITORIES_AT_ONCE = 4
REPOSITORIES_IN_BATCH = 16
UNKNOWN_KIB = 1024
LARGEST_KIB = 2**50
DAMAGED_LINE = "damaged line of a repository list"
CANNOT_BE_CLONED = "cannot be cloned"
SCHEME_AND_USER = re.compile(r"[a-z]+://([^/]*@)?")
LONGEST_CLONE_NAME = 160
"""Maximum length of a clone's name in bytes. An unfinished clone adds its host and process to the name of its folder."""


class RepositoryRule(Protocol):
    def keep(self, row: Mapping[str, Any]) -> Literal[True] | str:
        """Return True, or the reason under which all files of the repository are counted as dropped."""
        ...


@dataclass(frozen=True)
class Listed:
    project: Project
    address: str
    num_bytes: int
    commit: str | None = None
    """Hash of the commit to read, if the list names one; None: the newest commit."""
    reason: str | None = None
    """Reason why the repository is not cloned; None if it is cloned."""


@dataclass(frozen=True)
class RepositoryList:
    paths: tuple[Path, ...]
    filters: Sequence[RepositoryRule] = ()
    limits: CloneLimits = field(default_factory=CloneLimits)
    clones: Path | None = None
    """Folder for clones; clones of a killed run are found there and reused. None: the system's temporary folder."""
    keep_clones: bool = False
    """True if clones stay in the folder after they are read."""

    def batches(self, check: FileCheck) -> Iterator[Batch]:
        group: list[Listed] = []
        for repository in self.repositories():
            size = sum(other.num_bytes for other in group)
            if group and (len(group) == REPOSITORIES_IN_BATCH or size + repository.num_bytes > BATCH_BYTES):
                yield RepositoryBatch(tuple(group), self, check)
                group = []
            group.append(repository)
        if group:
            yield RepositoryBatch(tuple(group), self, check)

    def repositories(self) -> Iterator[Listed]:
        """Yield each repository once, in the order of the lists."""
        seen = set()
        for path in self.paths:
            for repository in self._read_lines(path):
                if repository.address:
                    name = make_clone_name(repository.address)
                    if name in seen:
                        continue
                    seen.add(name)
                yield repository

    def _read_lines(self, path: Path) -> Iterator[Listed]:
        list_name = make_printable(drop_suffixes(path.name))
        for number, line in enumerate(yield_with_damage(read_lines(path, 0, None), path), 1):
            if isinstance(line, Damage):
                reason = f"repository list is damaged after {number - 1:,} lines: {line.words}"
                yield Listed(Project(list_name), "", 0, reason=reason)
                return
            if not line[1].isspace():
                yield self._parse_line(line[1]) or Listed(Project(f"{list_name}:{number}"), "", 0, reason=DAMAGED_LINE)

    def _parse_line(self, line: bytes) -> Listed | None:
        """Return the repository of a line; None for a damaged line."""
        row = parse_row(line) or {}
        if not isinstance(row.get("url"), str):
            return None
        address = row["url"].strip()
        try:
            name = read_name(row.get("name")) or parse_project_name(address)
        except ValueError:
            return None
        row |= {field: parse_count(row.get(field)) for field in ("stars", "commits", "size_kib")}
        row["license"] = join_license_values(row.get("license"))
        language = read_name(row.get("language"))
        project = Project(name, language and (find_language(language) or language), row["stars"], row["license"])
        kib = row["size_kib"]
        num_bytes = 1024 * (UNKNOWN_KIB if kib is None else min(max(kib, 1), LARGEST_KIB))
        commit = COMMIT.fullmatch(read_name(row.get("commit")) or "")
        refusal = next((reason for rule in self.filters if (reason := rule.keep(row)) is not True), None)
        return Listed(project, address, num_bytes, commit and commit[0], refusal)


def parse_project_name(address: str) -> str:
    """Return the name of a repository by its address.

    >>> parse_project_name("https://github.com/torvalds/linux.git"), parse_project_name("git@github.com:torvalds/linux.git")
    ('torvalds/linux', 'torvalds/linux')
    """
    path = clean_member_path(urlsplit(address).path if "://" in address else address.rpartition(":")[2])
    return "/".join(path.removesuffix(".git").split("/")[-2:]) or make_printable(address)


def make_clone_name(address: str) -> str:
    """Return the path of a clone below the folder of clones. All spellings of an address give one path; a long path is hashed.

    >>> make_clone_name("https://me@GitHub.com/torvalds/linux/"), make_clone_name("file:///srv/linux.git")
    ('github.com/torvalds/linux.git', 'localhost/srv/linux.git')
    >>> make_clone_name("https://example.org/" + "a/" * 3_000)
    'long/4fd8bd014fc37d56dd47d960551a309af2036c87bb3dde524324ed7f837577a8.git'
    """
    host, _, path = SCHEME_AND_USER.sub("", address, count=1).partition("/")
    name = clean_member_path(f"{host.lower() or 'localhost'}/{path}").removesuffix(".git")
    if len(name.encode()) > LONGEST_CLONE_NAME:
        name = f"long/{hashlib.sha256(name.encode()).hexdigest()}"
    return f"{name}.git"


@dataclass(frozen=True)
class RepositoryBatch:
    repositories: tuple[Listed, ...]
    source: RepositoryList
    check: FileCheck

    @property
    def num_bytes(self) -> int:
        return sum(repository.num_bytes for repository in self.repositories)

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        done = 0
        with self._clone_ahead() as clones:
            for repository, folder in clones:
                for file in read_clone(repository, folder, self.check):
                    yield file, done
                done += repository.num_bytes
                if not self.source.keep_clones and not isinstance(folder, CloneError):
                    remove_clone(folder)

    @contextmanager
    def _clone_ahead(self) -> Iterator[Iterator[tuple[Listed, "Path | CloneError"]]]:
        """Yield the repositories in order with the folders of their clones. Up to REPOSITORIES_AT_ONCE are cloned in advance."""
        stopped = Event()
        with TemporaryDirectory(prefix="neox-clones-") as temporary, ThreadPoolExecutor(REPOSITORIES_AT_ONCE) as threads:
            futures: list[Future[Path | CloneError]] = []

            def iter_clones() -> Iterator[tuple[Listed, Path | CloneError]]:
                for index, repository in enumerate(self.repositories):
                    for number in range(len(futures), min(index + REPOSITORIES_AT_ONCE, len(self.repositories))):
                        folder = self._folder(self.repositories[number], Path(temporary) / str(number))
                        futures.append(threads.submit(self._clone, self.repositories[number], folder, stopped))
                    yield repository, futures[index].result()

            try:
                yield iter_clones()
            finally:
                stopped.set()
                for future in futures:
                    future.cancel()

    def _folder(self, repository: Listed, temporary: Path) -> Path:
        return temporary if self.source.clones is None else self.source.clones / make_clone_name(repository.address)

    def _clone(self, repository: Listed, folder: Path, stopped: Event) -> "Path | CloneError":
        if repository.reason is not None:
            return CloneError(repository.reason)
        if is_clone(folder, repository.commit):
            return folder
        if repository.num_bytes > self.source.limits.max_listed_bytes:
            return CloneError(f"{CANNOT_BE_CLONED}: larger than {self.source.limits.max_listed_bytes:,} bytes")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = make_partial_folder(folder)
            clone(repository.address, partial, self.source.limits, repository.commit, stopped)
        except CloneError as error:
            return CloneError(f"{CANNOT_BE_CLONED}: {error}")
        remove_clone(folder)
        partial.rename(folder)
        return folder


def is_clone(folder: Path, commit: str | None) -> bool:
    """Return True if a folder is a complete repository. If `commit` is given, it must be at HEAD."""
    if not is_bare_repository(folder):
        return False
    try:
        _, head = find_head(folder)
    except UnreadableRepository:
        return False
    return commit in (None, head)


def read_clone(repository: Listed, folder: "Path | CloneError", check: FileCheck) -> Iterator[FoundFile]:
    if isinstance(folder, CloneError):
        yield FoundFile(repository.project, "", 0, str(folder))
        return
    for batch in GitSource(repository.project, folder).batches(check):
        for file, _ in batch.read():
            yield file
