"""Drop files before they are read, by their project, name and size.

prefilter = Prefilter(recipe, ("C", "Python"))
prefilter(Project("me/tree"), "src/main.c", 1_200)        None: it is read
prefilter(Project("me/tree"), "README.md", 1_200)         "no known language"
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
LARGEST_STATEMENT = 2**18
"""Maximum size in bytes of a file that is read only because it states a license or version."""


def apply_filter(rule: Filter, file: Candidate) -> str | None:
    """Return the reason why a filter drops a file; None if it keeps it. Raise DataError if `keep` returns anything else."""
    decision = rule.keep(file)
    if decision is True:
        return None
    if not isinstance(decision, str):
        raise DataError(f"filter {rule.name!r} returned {decision!r} for {file.path}. It must return True or a drop reason.")
    return decision


def apply_edit(rule: Edit, file: Candidate) -> str:
    """Return the edited text. Raise DataError if the edit returns no text, or a text that UTF-8 cannot encode."""
    text = rule.edit(file)
    if not isinstance(text, str):
        raise DataError(f"edit {rule.name!r} returned {text!r} for {file.path}. It must return the text, changed or not.")
    if text is not file.text and (surrogate := re.search("[\ud800-\udfff]", text)):
        code = f"U+{ord(surrogate[0]):04X}"
        raise DataError(
            f"edit {rule.name!r} left the lone surrogate {code} in {file.path}, which UTF-8 cannot encode. Correct the edit."
        )
    return text


@dataclass(frozen=True)
class Prefilter:
    """A function that returns the reason why a file is not read, or None. It uses the first of several possible languages."""

    recipe: Recipe
    languages: tuple[str, ...]
    """The languages of the corpus."""

    def __call__(self, project: Project, path: str, num_bytes: int) -> str | None:
        reason = self._find_drop_reason(project, path, num_bytes)
        if reason is None or not 0 < num_bytes <= LARGEST_STATEMENT:
            return reason
        rows = self.recipe.rows
        is_read_for_others = states_license(path) or (rows is not None and rows.is_version_file(path))
        return None if is_read_for_others else reason

    def _find_drop_reason(self, project: Project, path: str, num_bytes: int) -> str | None:
        possible = self.recipe.language_rule.find_languages_by_name(project, path)
        if possible == ():
            return DATASET_FILE if is_shard_name(path) else NO_LANGUAGE
        if possible and not any(language in self.languages for language in possible):
            return NOT_CHOSEN
        file = Candidate(path, possible[0] if possible else "", num_bytes)
        for rule in self.recipe.before_reading:
            if (reason := apply_filter(rule, file)) is not None:
                return reason
        return None
