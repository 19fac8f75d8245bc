"""The projects of a build with their languages, licenses and ranks. Of several duplicates, the one of lowest rank is kept.

    table = ProjectTable()
    table.find_number(project)            the number of a project by its name; fields from several sources are merged
    table.language(number)              the named language, or the one with most bytes
    table.licenses(number)              the statements of its license files and manifests, by folder
    table.rank_projects()                       the order of the projects by stars (most first), then by name

A project takes about 500 bytes of memory, a million projects half a gigabyte.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from neox_code.corpus.licenses.folder_licenses import FolderLicenses
from neox_code.corpus.sources.protocol import Project

NOTHING_STATED = FolderLicenses()


class ProjectTable:
    def __init__(self) -> None:
        self.projects: list[Project] = []
        self._numbers: dict[str, int] = {}
        self._licenses: dict[int, FolderLicenses] = {}
        self._joined: dict[int, FolderLicenses] = {}
        self._versions_found: dict[int, dict[str, str]] = {}
        self._counted: Mapping[int, Mapping[str, int]] = {}

    def __len__(self) -> int:
        return len(self.projects)

    def find_number(self, project: Project) -> int:
        """Return the number of a project. Add a project with a new name; fill in missing fields of one that was added before."""
        number = self._numbers.setdefault(project.name, len(self.projects))
        if number == len(self.projects):
            self.projects.append(project)
        elif (known := self.projects[number]) != project:
            self.projects[number] = replace(
                known,
                language=known.language or project.language,
                stars=max(known.stars or 0, project.stars or 0) if known.stars is not None or project.stars is not None else None,
                license=known.license or project.license,
                commit=known.commit or project.commit,
                within=known.within or project.within,
                folder=known.folder or project.folder,
            )
        return number

    def number_projects(self, projects: Iterable[Project]) -> np.ndarray:
        return np.array([self.find_number(project) for project in projects], np.int64)

    def add_license(self, number: int, path: str, statement: str) -> None:
        self._licenses.setdefault(number, FolderLicenses()).add(path, statement)

    def add_version(self, number: int, path: str, version: str) -> None:
        """Add the version that a file states for all files in its folder."""
        self._versions_found.setdefault(number, {}).setdefault(path.rpartition("/")[0], version)

    def licenses(self, number: int) -> FolderLicenses:
        """Return the license statements of a project, including those in the root folder of its source."""
        own = self._licenses.get(number, NOTHING_STATED)
        project = self.projects[number]
        above = None if project.within is None else self._licenses.get(self._numbers.get(project.within, number))
        if above is None or above is own:
            return own
        if number not in self._joined:
            self._joined[number] = own.inherit_from(above, project.folder)
        return self._joined[number]

    def versions(self, number: int) -> dict[str, str]:
        return self._versions_found.get(number, {})

    def set_sizes(self, sizes: Mapping[int, Mapping[str, int]]) -> None:
        """Set the bytes by language of each project number; `language` uses them."""
        self._counted = sizes

    def language(self, number: int) -> str | None:
        """Return the stated language of a project, else the language with the most bytes (of equals, the first by name)."""
        counted = self._counted.get(number, {})
        return self.projects[number].language or min(counted, key=lambda language: (-counted[language], language), default=None)

    def rank_projects(self) -> np.ndarray:
        """Return the rank of every project by stars (most first), then by name: int64 [projects]."""
        keys = [(-(project.stars or 0), project.name) for project in self.projects]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        return ranks
