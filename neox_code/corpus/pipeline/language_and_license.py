"""Settling a block of rows: the language that a file takes from its project, its license, and whether that is allowed.

with Settler(settings, projects, verdicts, folder) as settler:
    settler.settle(block, numbers)             # numbers: of the project of each row; changes `verdicts`
"""

from pathlib import Path

import numpy as np

from neox_code.corpus.pipeline.drop_reasons import KEPT_CODE, NO_FILE_CODE, Verdicts
from neox_code.corpus.pipeline.parts import Block
from neox_code.corpus.pipeline.prefilter import NOT_CHOSEN
from neox_code.corpus.pipeline.project_table import ProjectTable
from neox_code.corpus.pipeline.row_licenses import LICENSE_COLUMNS, LicenseWriter
from neox_code.corpus.pipeline.work_folder import Settings

OTHER_LANGUAGE = "not in its project's language"
NO_PROJECT_LANGUAGE = "its project has no language"
SETTLED_COLUMNS = ["project", "is_first", "language", "reason", "sha256", *LICENSE_COLUMNS]


class Settler:
    def __init__(self, settings: Settings, projects: ProjectTable, verdicts: Verdicts, folder: Path):
        self.recipe = settings.recipe
        self.chosen = frozenset(settings.languages)
        self.projects = projects
        self.verdicts = verdicts
        self._languages: dict[str, int] = {}
        self._licenses = LicenseWriter(folder)
        self._license_codes: list[int] = []
        """Of each license that was decided the code of the reason for which it drops a file; KEPT_CODE where it does not."""

    def __enter__(self) -> "Settler":
        self._licenses.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._licenses.__exit__(*exception)

    def settle(self, block: Block, numbers: np.ndarray) -> None:
        self.verdicts.take_over(block)
        if self.recipe.language_rule.of_project:
            self._take_language_of_project(block, numbers)
        licenses = self._licenses.write(block, numbers, self.projects)
        if self.recipe.licenses is not None:
            self._judge_licenses(block, licenses)

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

    def _judge_licenses(self, block: Block, licenses: np.ndarray) -> None:
        """Drop the kept rows whose license, a number for each row, is not allowed."""
        assert self.recipe.licenses is not None
        for license in self._licenses.licenses[len(self._license_codes) :]:
            reason = self.recipe.licenses.reason(license.expression)
            self._license_codes.append(KEPT_CODE if reason is None else self.verdicts.code(reason))
        codes = self.verdicts.codes[block.rows]
        decided = np.array(self._license_codes, np.uint16)[licenses]
        codes[codes == KEPT_CODE] = decided[codes == KEPT_CODE]
