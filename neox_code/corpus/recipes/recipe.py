"""A recipe: which files become documents of a corpus. Each recipe is a module of this folder, or a Python file of the user's.

    RECIPE = Recipe(
        "short",
        languages=("Python", "Ruby"),
        language_rule=FileLanguage(),
        before_reading=(NotEmpty(), MaxBytes(65_536)),
        after_reading=(MinTokens(20),),
    )

and `tools/build_corpus.py SOURCE --recipe short.py` builds with it.
"""

from dataclasses import dataclass
from typing import Any, Literal

from neox_code.corpus.duplicates.exact import ExactDuplicates
from neox_code.corpus.duplicates.protocol import DuplicateRule
from neox_code.corpus.filters.protocol import Edit, Filter
from neox_code.corpus.languages.rules import LanguageRule
from neox_code.corpus.licenses.license import AllowedLicenses
from neox_code.corpus.rows.protocol import RowMaker


@dataclass(frozen=True)
class Recipe:
    name: str
    languages: tuple[str, ...]
    language_rule: LanguageRule
    """ProjectLanguage: a project's files of its one language, as PolyCoder; FileLanguage: every file in its own, as linguist."""
    before_reading: tuple[Filter, ...]
    """Filters by name and size, which spare the reading."""
    after_reading: tuple[Filter | Edit, ...]
    """Filters by content, and edits, in their order."""
    decoding: Literal["utf-8 ignoring errors", "detected"] = "detected"
    """PolyCoder's, which leaves out bytes that are not UTF-8; or the encoding that the file is found to be in: see decoding.py."""
    newlines: Literal["keep", "lf"] = "keep"
    repositories: tuple[Any, ...] = ()
    """Filters by what a list says of a repository: RepositoryFilter of filters/repository.py."""
    licenses: AllowedLicenses | None = None
    duplicates: tuple[DuplicateRule, ...] = (ExactDuplicates(),)
    """Each among the files that the rules before it have left."""
    divide_large_projects: bool = False
    """Whether a project with much of a language is split like several: for corpora of few projects."""
    rows: RowMaker | None = None
    """Rows for fine-tuning made of the documents."""
