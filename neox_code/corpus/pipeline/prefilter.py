"""What is said of a file before it is read: by its project, its name and its size.

judge = Judge(recipe, ("C", "Python"))
judge(Project("me/tree"), "src/main.c", 1_200)        None: it is read
judge(Project("me/tree"), "README.md", 1_200)         "no known language"
"""

import re
from dataclasses import dataclass

from neox_code.corpus.filters.protocol import Candidate, Edit, Filter
from neox_code.corpus.licenses.folder_licenses import states_license
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.sources.datasets import is_shard_name
from neox_code.corpus.sources.protocol import Project
from neox_code.errors import DataError

NO_LANGUAGE = "no known language"
NOT_CHOSEN = "language not chosen"
DATASET_FILE = "file of a dataset among files of source code"
LARGEST_TOLD_BY = 2**18
"""Files that are read for what they say of their project are not longer."""


def drop_reason(rule: Filter, file: Candidate) -> str | None:
    """Why a filter drops a file; None if it keeps it. Raises DataError for a filter that says neither."""
    verdict = rule.keep(file)
    if verdict is True:
        return None
    if not isinstance(verdict, str):
        raise DataError(f"filter {rule.name!r} gave {verdict!r} for {file.path}. Let it return True, or the reason of the drop.")
    return verdict


def edited_text(rule: Edit, file: Candidate) -> str:
    """Return the text as an edit leaves it. Raises DataError for an edit that returns no text, or one that UTF-8 cannot express."""
    text = rule.edit(file)
    if not isinstance(text, str):
        raise DataError(f"edit {rule.name!r} gave {text!r} for {file.path}. Let it return the text, changed or not.")
    if text is not file.text and (surrogate := re.search("[\ud800-\udfff]", text)):
        code = f"U+{ord(surrogate[0]):04X}"
        raise DataError(
            f"edit {rule.name!r} left the lone surrogate {code} in {file.path}, which UTF-8 cannot express. Mend the edit."
        )
    return text


@dataclass(frozen=True)
class Judge:
    """Says why a file is not read; None if it is. A file that can be in several languages is judged in the first."""

    recipe: Recipe
    languages: tuple[str, ...]
    """Languages to take."""

    def __call__(self, project: Project, path: str, num_bytes: int) -> str | None:
        reason = self._reason(project, path, num_bytes)
        if reason is not None and 0 < num_bytes <= LARGEST_TOLD_BY and self.speaks_for_project(project, path):
            return None
        return reason

    def _reason(self, project: Project, path: str, num_bytes: int) -> str | None:
        possible = self.recipe.language_rule.by_name(project, path)
        if possible == ():
            return DATASET_FILE if is_shard_name(path) else NO_LANGUAGE
        if possible and not any(language in self.languages for language in possible):
            return NOT_CHOSEN
        file = Candidate(path, possible[0] if possible else "", num_bytes)
        for rule in self.recipe.before_reading:
            if (reason := drop_reason(rule, file)) is not None:
                return reason
        return None

    def speaks_for_project(self, project: Project, path: str) -> bool:
        """True for files that are read for what they state of others: a license, a version."""
        return states_license(path) or (self.recipe.rows is not None and self.recipe.rows.says_version(path))
