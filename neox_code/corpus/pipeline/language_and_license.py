"""Decide the language of a file by its project, find its license, and drop the file if the license is not allowed.

decider = LanguageAndLicense(settings, projects, drop_reasons, LicenseWriter(folder))
decider.decide_block(block, numbers)             # numbers: the project of each row; changes `drop_reasons`
"""

import numpy as np

from neox_code.corpus.pipeline.drop_reasons import KEPT_CODE, NO_FILE_CODE, DropReasons
from neox_code.corpus.pipeline.prefilter import NOT_CHOSEN
from neox_code.corpus.pipeline.project_table import ProjectTable
from neox_code.corpus.pipeline.row_licenses import LICENSE_COLUMNS, LicenseWriter
from neox_code.corpus.pipeline.scan_results import Block
from neox_code.corpus.pipeline.work_folder import Settings

OTHER_LANGUAGE = "not in its project's language"
NO_PROJECT_LANGUAGE = "its project has no language"
LANGUAGE_AND_LICENSE_COLUMNS = ["project", "is_first", "language", "reason", "sha256", *LICENSE_COLUMNS]


class LanguageAndLicense:
    def __init__(self, settings: Settings, projects: ProjectTable, drop_reasons: DropReasons, licenses: LicenseWriter):
        self.recipe = settings.recipe
        self.chosen = frozenset(settings.languages)
        self.projects = projects
        self.drop_reasons = drop_reasons
        self._languages: dict[str, int] = {}
        self._licenses = licenses
        self._license_codes: list[int] = []
        """Code of the drop reason for each license in `_licenses`; KEPT_CODE for an allowed license."""

    def decide_block(self, block: Block, numbers: np.ndarray) -> None:
        self.drop_reasons.add_scan_reasons(block)
        if self.recipe.language_rule.selects_by_project:
            self._choose_language_of_project(block, numbers)
        licenses = self._licenses.write(block, numbers, self.projects)
        if self.recipe.licenses is not None:
            self._drop_by_license(block, licenses)

    def _choose_language_of_project(self, block: Block, numbers: np.ndarray) -> None:
        """Select one row of each file: the row in the language of its project. Drop the file if it has no such row.

        A file that was not read keeps its drop reason.
        """
        codes = self.drop_reasons.codes[block.rows]
        language = block.encode("language", self._languages)
        wanted, reason = self._find_wanted_languages(numbers)
        is_first = block.table["is_first"].to_numpy()
        file = np.cumsum(is_first) - 1
        undecided = block.table["sha256"].is_valid().to_numpy() & (language >= 0)
        is_named = np.array([project.language is not None for project in block.projects])[block.numbers("project")]
        matches = undecided & (is_named | (language == wanted))
        has_match = np.bincount(file, matches, minlength=int(file[-1]) + 1 if len(file) else 0)[file] > 0
        codes[~matches & (has_match | ~is_first)] = NO_FILE_CODE
        lost = undecided & ~has_match & is_first
        codes[lost] = reason[lost]

    def _find_wanted_languages(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return two codes per row: its project's language (int64), and the drop reason for rows in other languages (uint16)."""
        wanted, reasons = {}, {}
        for number in np.unique(numbers).tolist():
            language = self.projects.language(number)
            wanted[number] = self._languages.setdefault(language, len(self._languages)) if language in self.chosen else -2
            reasons[number] = self.drop_reasons.find_code(
                NO_PROJECT_LANGUAGE if language is None else OTHER_LANGUAGE if language in self.chosen else NOT_CHOSEN
            )
        unique, inverse = np.unique(numbers, return_inverse=True)
        return (
            np.array([wanted[number] for number in unique.tolist()], np.int64)[inverse],
            np.array([reasons[number] for number in unique.tolist()], np.uint16)[inverse],
        )

    def _drop_by_license(self, block: Block, licenses: np.ndarray) -> None:
        """Drop rows whose license is not allowed. `licenses` has the number of each row's license, int32 [rows]."""
        assert self.recipe.licenses is not None
        for license in self._licenses.licenses[len(self._license_codes) :]:
            reason = self.recipe.licenses.find_drop_reason(license.expression)
            self._license_codes.append(KEPT_CODE if reason is None else self.drop_reasons.find_code(reason))
        codes = self.drop_reasons.codes[block.rows]
        decided = np.array(self._license_codes, np.uint16)[licenses]
        codes[codes == KEPT_CODE] = decided[codes == KEPT_CODE]
