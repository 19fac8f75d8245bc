"""Kotlin without copyright headers and long literals, and rows of consecutive windows.

The recipe `kotlin-functions` makes one row per function instead; `kotlin-faithful` makes the rows of the Kotlin project
(rinapch/jb_intern), including its bugs.
"""

from neox_code.corpus.duplicates.exact import ExactDuplicates
from neox_code.corpus.filters.headers import CopyrightHeaders
from neox_code.corpus.filters.literals import LongLiterals
from neox_code.corpus.filters.size import MaxBytes, NotBlank, NotEmpty
from neox_code.corpus.languages.rules import FileLanguage
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.rows.kotlin import KotlinWindows

LANGUAGES = ("Kotlin",)

RECIPE = Recipe(
    "kotlin",
    languages=LANGUAGES,
    language_rule=FileLanguage(LANGUAGES),
    before_reading=(NotEmpty(), MaxBytes(1_048_576)),  # PolyCoder
    after_reading=(CopyrightHeaders(), LongLiterals(digits=40, characters=200), NotBlank()),
    newlines="lf",
    duplicates=(ExactDuplicates(),),
    rows=KotlinWindows(tokens=100),
)
