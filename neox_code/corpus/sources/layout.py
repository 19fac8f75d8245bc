"""Which folders of a source are languages, organizations and projects.

    layout = detect_layout(Path("~/repositories"))          # "language/organization/project"
    project, path = placed("repositories", layout, "Go/golang/go/src/sort/sort.go")     # golang/go in Go, src/sort/sort.go

The rule, by what is visible (names with a leading dot are not looked at):
1. A folder with files at its top and no git repository among its first-level folders is one repository.
2. Where every first-level folder is named as a language, those are the languages.
3. Of the folders that follow, one that holds files or is a git repository counts for `project`, any other for `organization`;
   the majority decides for all (at most SAMPLE of them are looked into, in the order of names).
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from neox_code.corpus.licenses.folder_licenses import states_license
from neox_code.corpus.sources.names import language_named, printable
from neox_code.corpus.sources.protocol import Project
from neox_code.errors import DataError

LAYOUTS: dict[str, tuple[str, ...]] = {
    "repository": (),
    "project": ("project",),
    "organization/project": ("organization", "project"),
    "language/project": ("language", "project"),
    "language/organization/project": ("language", "organization", "project"),
}
SAMPLE = 512


def check_layout(layout: str) -> str:
    """The layout by its name in LAYOUTS; case does not matter."""
    if layout.lower() not in LAYOUTS:
        raise DataError(f"layout {layout!r} is unknown. Choose one of {', '.join(LAYOUTS)}.")
    return layout.lower()


def detect_layout(folder: Path) -> str:
    folders, has_files = visible_entries(folder)
    if has_files and not any(is_git_repository(folder / name) for name in islice(folders, SAMPLE)):
        return "repository"
    is_languages = bool(folders) and all(language_named(name) for name in folders)
    parents = [folder / name for name in folders] if is_languages else [folder]
    votes = Counter(
        holds_a_project(parent / name)
        for parent in parents
        for name in islice(visible_entries(parent)[0], max(SAMPLE // len(parents), 1))
    )
    layout = "organization/project" if votes["organization"] > votes["project"] else "project"
    return f"language/{layout}" if is_languages else layout


def holds_a_project(folder: Path) -> str:
    """`project`, `organization`, or `nothing` that would tell."""
    if is_git_repository(folder):
        return "project"
    folders, has_files = visible_entries(folder)
    return "project" if has_files else "organization" if folders else "nothing"


def visible_entries(folder: Path) -> tuple[list[str], bool]:
    """The names of the folders in it, sorted, and whether it holds files."""
    folders, has_files = [], False
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    has_files = True
    except OSError:
        return [], False
    return sorted(folders), has_files


def is_git_repository(path: Path) -> bool:
    """Whether a folder is the top of a work tree or a bare repository."""
    return (path / ".git").exists() or is_bare_repository(path)


def is_bare_repository(path: Path) -> bool:
    """A repository whose objects lie elsewhere, behind a link, is none: it would be read out of its tree."""
    return (path / "HEAD").is_file() and all(
        (path / name).is_dir() and not (path / name).is_symlink() for name in ("objects", "refs")
    )


def placed(source: str, layout: str, path: str) -> tuple[Project, str]:
    """The project of a source's file, and its path in there.

    >>> project, path = placed("code", "organization/project", "torvalds/linux/init/main.c")
    >>> project.name, path, project.within, project.folder
    ('torvalds/linux', 'init/main.c', 'code', 'torvalds/linux')
    """
    *folders, name = path.split("/")
    depth = len(LAYOUTS[layout])
    if len(folders) < depth:
        return placed_above_projects(source, layout, folders, name)
    return folder_project(source, layout, tuple(folders[:depth])), "/".join((*folders[depth:], name))


def placed_above_projects(source: str, layout: str, folders: Sequence[str], name: str) -> tuple[Project, str]:
    """Return the project and path of a file that lies above the projects.

    A license file or manifest belongs to the source's root, where the search for the license of a project ends.
    """
    if states_license(name):
        return Project(printable(source)), "/".join((*folders, name))
    if layout == "project":
        return single_file_project(source, name), name
    return folder_project(source, layout, tuple(folders)), name


@lru_cache(maxsize=4096)
def folder_project(source: str, layout: str, folders: Sequence[str]) -> Project:
    """The project that begins with these folders; files beside projects belong to one named after the folders above them."""
    names = dict(zip(LAYOUTS[layout], folders, strict=False))
    language = language_named(names.get("language", ""))
    parts = [names[level] for level in ("organization", "project") if level in names]
    if layout == "project" and parts:
        parts = [source, *parts]
    name = printable("/".join(parts) or source)
    is_below_root = bool(folders) and name != printable(source)
    return Project(
        name,
        language,
        within=printable(source) if is_below_root else None,
        folder=printable("/".join(folders)) if is_below_root else "",
    )


def single_file_project(source: str, name: str) -> Project:
    """A file beside first-level projects is a project of its own."""
    return Project(f"{source}/{Path(printable(name)).stem}", within=printable(source))
