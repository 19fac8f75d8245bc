"""A recipe selects and edits the files of a corpus. Each recipe is a module of this folder, or a Python file of the user.

    RECIPE = Recipe(
        "short",
        languages=("Python", "Ruby"),
        language_rule=FileLanguage(),
        before_reading=(NotEmpty(), MaxBytes(65_536)),
        after_reading=(MinTokens(20),),
    )

`tools/build_corpus.py SOURCE --recipe short.py` builds a corpus with it.
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
    """ProjectLanguage: one language per project, as in PolyCoder. FileLanguage: the language of each file, as in linguist."""
    before_reading: tuple[Filter, ...]
    """Filters by name and size, which run before a file is read."""
    after_reading: tuple[Filter | Edit, ...]
    """Filters that read the content of a file, and edits that change it. They run in this order."""
    decoding: Literal["utf-8 ignoring errors", "detected"] = "detected"
    """`utf-8 ignoring errors`: drop bytes that are not UTF-8, as PolyCoder does. `detected`: see languages/text_encoding.py."""
    newlines: Literal["keep", "lf"] = "keep"
    repositories: tuple[Any, ...] = ()
    """Filters for the rows of a repository list. Their interface is RepositoryRule in sources/repository_list.py."""
    licenses: AllowedLicenses | None = None
    duplicates: tuple[DuplicateRule, ...] = (ExactDuplicates(),)
    """Rules that find duplicates. Each rule is applied to the files that the rules before it have kept."""
    divide_large_projects: bool = False
    """True: divide a project with a large share of a language into its folders, which are then split like projects.
Use it for a corpus of few projects."""
    rows: RowMaker | None = None
    """Maker of fine-tuning rows from the documents; None: no rows."""
