"""Decide which folders of a source are languages, organizations and projects.

    layout = detect_layout(Path("~/repositories"))          # "language/organization/project"
    project, path = locate_file("repositories", layout, "Go/golang/go/src/sort/sort.go")
    project.name, project.language, path                                  # "golang/go", "Go", "src/sort/sort.go"

The rules, for names without a leading dot:
1. A folder with files at its top and no git repository among its first-level folders is one repository.
2. If every first-level folder has the name of a language, the first level is `language`.
3. On the next level, a folder that contains files or is a git repository counts as `project`, other folders as `organization`. The
   majority decides for the whole level. At most SAMPLE folders are examined, in the order of names.
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from neox_code.corpus.licenses.folder_licenses import states_license
from neox_code.corpus.sources.protocol import Project
from neox_code.corpus.sources.source_names import find_language, make_printable
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
    """Return the name in LAYOUTS of a layout that is written in any case. Raise DataError for an unknown layout."""
    if layout.lower() not in LAYOUTS:
        raise DataError(f"layout {layout!r} is unknown. Choose one of {', '.join(LAYOUTS)}.")
    return layout.lower()


def detect_layout(folder: Path) -> str:
    """Return the name in LAYOUTS that fits the entries of a folder."""
    folders, has_files = list_visible_entries(folder)
    if has_files and not any(is_git_repository(folder / name) for name in islice(folders, SAMPLE)):
        return "repository"
    is_languages = bool(folders) and all(find_language(name) for name in folders)
    parents = [folder / name for name in folders] if is_languages else [folder]
    kinds = Counter(
        classify_folder(parent / name)
        for parent in parents
        for name in islice(list_visible_entries(parent)[0], max(SAMPLE // len(parents), 1))
    )
    layout = "organization/project" if kinds["organization"] > kinds["project"] else "project"
    return f"language/{layout}" if is_languages else layout


def classify_folder(folder: Path) -> str:
    """Return `project`, `organization`, or `nothing` for a folder without visible entries."""
    if is_git_repository(folder):
        return "project"
    folders, has_files = list_visible_entries(folder)
    return "project" if has_files else "organization" if folders else "nothing"


def list_visible_entries(folder: Path) -> tuple[list[str], bool]:
    """Return the sorted names of the folders in a folder, and True if it contains files."""
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
    """Return True if a folder is the top of a work tree or a bare repository."""
    return (path / ".git").exists() or is_bare_repository(path)


def is_bare_repository(path: Path) -> bool:
    """Return True for a bare repository. Its object folder must not be a link, because a link can lead out of the source."""
    return (path / "HEAD").is_file() and all(
        (path / name).is_dir() and not (path / name).is_symlink() for name in ("objects", "refs")
    )


def locate_file(source: str, layout: str, path: str) -> tuple[Project, str]:
    """Return the project of a file, and the file's path in the project. `path` is relative to the source's root.

    >>> project, path = locate_file("code", "organization/project", "torvalds/linux/init/main.c")
    >>> project.name, path, project.within, project.folder
    ('torvalds/linux', 'init/main.c', 'code', 'torvalds/linux')
    """
    *folders, name = path.split("/")
    depth = len(LAYOUTS[layout])
    if len(folders) < depth:
        return locate_outside_projects(source, layout, folders, name)
    return make_folder_project(source, layout, tuple(folders[:depth])), "/".join((*folders[depth:], name))


def locate_outside_projects(source: str, layout: str, folders: Sequence[str], name: str) -> tuple[Project, str]:
    """Return the project and path of a file in a folder above the projects.

    A license file or manifest in such a folder belongs to the project of the source's root, where searches for a license end.
    """
    if states_license(name):
        return Project(make_printable(source)), "/".join((*folders, name))
    if layout == "project":
        own = f"{source}/{Path(make_printable(name)).stem}"  # a file beside first-level projects is a project of its own
        return Project(own, within=make_printable(source)), name
    return make_folder_project(source, layout, tuple(folders)), name


@lru_cache(maxsize=4096)
def make_folder_project(source: str, layout: str, folders: Sequence[str]) -> Project:
    """Return the project that the folders name. Files beside projects belong to a project with the name of the folders above."""
    names = dict(zip(LAYOUTS[layout], folders, strict=False))
    language = find_language(names.get("language", ""))
    parts = [names[level] for level in ("organization", "project") if level in names]
    if layout == "project" and parts:
        parts = [source, *parts]
    name = make_printable("/".join(parts) or source)
    is_below_root = bool(folders) and name != make_printable(source)
    return Project(
        name,
        language,
        within=make_printable(source) if is_below_root else None,
        folder=make_printable("/".join(folders)) if is_below_root else "",
    )
