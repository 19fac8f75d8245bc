"""Folders of source files. Files are listed in the order of their names and read one at a time; links are never followed.

    source = FolderSource("code", Path("/srv/code"), layout="organization/project")
    for batch in source.batches(check):
        for file, done in batch.read():
            ...

The listing is depth first. In each folder, files and folders are sorted together by name, so that the order does not depend on the
file system. A folder with more entries than ENTRIES_IN_MEMORY is sorted on disk. Bare repositories are read by git. In a work tree
the files on disk are read, and the checked-out commit is recorded.
"""

import heapq
import os
import pickle
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from neox_code.corpus.licenses.folder_licenses import VENDORED_FOLDER
from neox_code.corpus.sources.batches import (
    LINK,
    NOT_A_FILE,
    UNREADABLE,
    ListOfFiles,
    has_readable_content,
    make_batches,
    merge_small_batches,
    read_listed_files,
    set_content,
)
from neox_code.corpus.sources.folder_layout import (
    LAYOUTS,
    is_bare_repository,
    is_git_repository,
    locate_outside_projects,
    make_folder_project,
)
from neox_code.corpus.sources.git import GitSource
from neox_code.corpus.sources.protocol import Batch, FileCheck, FoundFile, Project
from neox_code.corpus.sources.regular_file import read_regular_file
from neox_code.corpus.sources.source_names import make_printable
from neox_code.corpus.sources.work_tree import read_checked_out_commit
from neox_code.errors import DataError

FOLDER = "folder"
GIT_FOLDER = "git's own folder"
ENTRIES_IN_MEMORY = 2**18
ENTRIES_AT_ONCE = 2**12

FolderEntry = tuple[str, str | None, int]
"""Name, kind and size in bytes. The kind is None for a regular file, FOLDER, or the reason why the entry is not read."""


@dataclass(frozen=True)
class FolderSource:
    name: str
    root: Path
    layout: str = "project"
    """Meaning of the folders below `root`: one of LAYOUTS in folder_layout.py."""
    languages: frozenset[str] | None = None
    """The languages to read from the source; None for all languages of the recipe."""
    excluded: frozenset[str] = frozenset()
    """First-level folders that are not read."""

    def batches(self, check: FileCheck) -> Iterator[Batch]:
        return merge_small_batches(self._batches(check))

    def _batches(self, check: FileCheck) -> Iterator[ListOfFiles]:
        for is_repository, listed in groupby(self._list_files(check), key=lambda item: isinstance(item, GitSource)):
            if is_repository:
                for repository in listed:
                    yield from repository.batches(check)  # type: ignore[union-attr]
            else:
                yield from make_batches(listed, FolderBatch)  # type: ignore[arg-type]

    def _list_files(self, check: FileCheck) -> Iterator[tuple[FoundFile, str] | GitSource]:
        """Yield every file below the root with its absolute path. For a bare repository, yield a GitSource."""
        try:
            stack = [Level(str(self.root), self._make_project(str(self.root), ()), (), "", read_sorted_entries(self.root))]
        except OSError as error:
            raise DataError(f"source {self.root} cannot be listed: {error.strerror}. Check its permissions.") from None
        while stack:
            level = stack[-1]
            name, kind, size = next(level.entries, (None, None, 0))
            if name is None:
                stack.pop()
            elif kind != FOLDER:
                yield self._make_found_file(level, name, kind, size, check), f"{level.place}/{name}"
            elif len(stack) > 1 or name not in self.excluded:
                below = self._enter_folder(level, name)
                if below.is_project and is_bare_repository(Path(below.place)):
                    project = replace(below.project, name=below.project.name.removesuffix(".git"))
                    yield GitSource(project, Path(below.place))
                    continue
                try:
                    below.entries = read_sorted_entries(below.place)
                except OSError:
                    path = make_printable(below.inside.rstrip("/")) if below.inside else make_printable(name)
                    yield FoundFile(below.project, path, 0, UNREADABLE), below.place
                else:
                    stack.append(below)

    def _make_found_file(self, level: "Level", name: str, kind: str | None, size: int, check: FileCheck) -> FoundFile:
        project, path = level.project, f"{level.inside}{name}"
        if len(level.folders) < len(LAYOUTS[self.layout]):
            project, path = locate_outside_projects(self.name, self.layout, level.folders, name)
            project = self._remove_root_project(project) if self._is_vendored else project
        path = make_printable(path)
        file = FoundFile(project, path, size, kind or check(project, path, size))
        if kind == LINK and has_readable_content(file):
            set_content(file, read_link_target(f"{level.place}/{name}"))
        return file

    def _enter_folder(self, level: "Level", name: str) -> "Level":
        place = f"{level.place}/{name}"
        if len(level.folders) == len(LAYOUTS[self.layout]):
            return Level(place, level.project, level.folders, f"{level.inside}{name}/", iter(()))
        folders = (*level.folders, name)
        is_project = len(folders) == len(LAYOUTS[self.layout])
        return Level(place, self._make_project(place, folders), folders, "", iter(()), is_project)

    def _make_project(self, place: str, folders: tuple[str, ...]) -> Project:
        project = make_folder_project(self.name, self.layout, folders)
        if self._is_vendored or is_git_repository(Path(place)):
            project = self._remove_root_project(project)
        return replace(project, commit=read_checked_out_commit(place)) if len(folders) == len(LAYOUTS[self.layout]) else project

    @property
    def _is_vendored(self) -> bool:
        """True if the root holds packages of many origins (site-packages): a license file in it does not apply to them."""
        return VENDORED_FOLDER.fullmatch(self.root.name) is not None

    def _remove_root_project(self, project: Project) -> Project:
        """Return the project without its link to the source's root, so that the root's license does not apply to it."""
        return replace(project, within=None, folder="")


@dataclass
class Level:
    """A folder that is being listed."""

    place: str
    project: Project
    folders: tuple[str, ...]
    """Names of the language, organization and project folders above this folder, outermost first."""
    inside: str
    """Path of this folder in its project, with a slash at the end; "" for the project's own folder and folders above it."""
    entries: Iterator[FolderEntry]
    is_project: bool = False


def read_sorted_entries(place: str | Path) -> Iterator[FolderEntry]:
    """Return the entries of a folder, sorted by name (many entries: on disk). Raise OSError if the folder cannot be read."""
    with os.scandir(place) as scan:
        entries = ((entry.name, *read_kind_and_size(entry)) for entry in scan)
        first = sorted(islice(entries, ENTRIES_IN_MEMORY))
        if len(first) < ENTRIES_IN_MEMORY:
            return iter(first)
        runs = [write_sorted_run(first)]
        while run := sorted(islice(entries, ENTRIES_IN_MEMORY)):
            runs.append(write_sorted_run(run))
        return heapq.merge(*map(read_sorted_run, runs))


def write_sorted_run(entries: list[FolderEntry]) -> IO[bytes]:
    file = TemporaryFile()  # noqa: SIM115 (lives as long as the merge that reads it)
    for start in range(0, len(entries), ENTRIES_AT_ONCE):
        pickle.dump(entries[start : start + ENTRIES_AT_ONCE], file)
    entries.clear()
    file.seek(0)
    return file


def read_sorted_run(file: IO[bytes]) -> Iterator[FolderEntry]:
    with file:
        while True:
            try:
                entries = pickle.load(file)
            except EOFError:
                return
            yield from entries


def read_kind_and_size(entry: "os.DirEntry[str]") -> tuple[str | None, int]:
    try:
        if entry.is_symlink():
            return LINK, 0
        if entry.is_dir(follow_symlinks=False):
            return (GIT_FOLDER if entry.name == ".git" else FOLDER), 0
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return UNREADABLE, 0
    return (None, status.st_size) if stat.S_ISREG(status.st_mode) else (NOT_A_FILE, 0)


def read_link_target(place: str) -> bytes | None:
    try:
        return os.fsencode(Path(place).readlink())
    except OSError:
        return None


@dataclass(frozen=True)
class FolderBatch:
    files: tuple[tuple[FoundFile, str], ...]
    num_bytes: int

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        return read_listed_files(self.files, lambda file, place: read_regular_file(place, file.num_bytes))
