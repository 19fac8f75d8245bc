"""Settling a block of rows: the language that a file takes from its project, and whether its licence is allowed.

settler = Settler(settings, projects, verdicts)
settler.settle(block, numbers)                 # numbers: of the project of each row; changes `verdicts`
"""

from functools import cache

import numpy as np

from neox_code.corpus.judge import NOT_CHOSEN
from neox_code.corpus.parts import Block
from neox_code.corpus.project_table import ProjectTable
from neox_code.corpus.verdicts import NO_FILE_CODE, Verdicts
from neox_code.corpus.work_folder import Settings

OTHER_LANGUAGE = "not in its project's language"
NO_PROJECT_LANGUAGE = "its project has no language"
SETTLED_COLUMNS = ["project", "is_first", "language", "reason", "sha256", "license"]


class Settler:
    def __init__(self, settings: Settings, projects: ProjectTable, verdicts: Verdicts):
        self.recipe = settings.recipe
        self.chosen = frozenset(settings.languages)
        self.projects = projects
        self.verdicts = verdicts
        self._languages: dict[str, int] = {}
        self._license_reason = cache(self.recipe.licenses.reason) if self.recipe.licenses is not None else no_reason

    def settle(self, block: Block, numbers: np.ndarray) -> None:
        self.verdicts.take_over(block)
        if self.recipe.language_rule.of_project:
            self._take_language_of_project(block, numbers)
        if self.recipe.licenses is not None:
            self._judge_licenses(block, numbers)

    def _take_language_of_project(self, block: Block, numbers: np.ndarray) -> None:
        """Of a file's rows the one in the language of its project; none is: the file is dropped.

        Files of projects whose language was named are in it by their names already; what was not read keeps its reason.
        """
        codes = self.verdicts.codes[block.rows]
        language = block.coded("language", self._languages)
        wanted, reason = self._wanted(numbers)
        is_first = block.table["is_first"].to_numpy()
        file = np.cumsum(is_first) - 1
        undecided = block.table["sha256"].is_valid().to_numpy() & (language >= 0)
        is_named = np.array([project.language is not None for project in block.projects])[block.numbers("project")]
        matches = undecided & (is_named | (language == wanted))
        has_match = np.bincount(file, matches, minlength=int(file[-1]) + 1 if len(file) else 0)[file] > 0
        codes[~matches & (has_match | ~is_first)] = NO_FILE_CODE
        lost = undecided & ~has_match & is_first
        codes[lost] = reason[lost]

    def _wanted(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each row the code of its project's language, and the reason under which a file without it is dropped."""
        wanted, reasons = {}, {}
        for number in np.unique(numbers).tolist():
            language = self.projects.language(number)
            wanted[number] = self._languages.setdefault(language, len(self._languages)) if language in self.chosen else -2
            reasons[number] = self.verdicts.code(
                NO_PROJECT_LANGUAGE if language is None else OTHER_LANGUAGE if language in self.chosen else NOT_CHOSEN
            )
        unique, inverse = np.unique(numbers, return_inverse=True)
        return (
            np.array([wanted[number] for number in unique.tolist()], np.int64)[inverse],
            np.array([reasons[number] for number in unique.tolist()], np.uint16)[inverse],
        )

    def _judge_licenses(self, block: Block, numbers: np.ndarray) -> None:
        kept = np.flatnonzero(self.verdicts.kept(block.rows))
        own = block.values("license")
        for index in kept.tolist():
            reason = self._license_reason(own[index] or self.projects.license(int(numbers[index])))
            if reason is not None:
                self.verdicts.drop(block.first_row + index, reason)


def no_reason(license: str | None) -> None:
    return None
