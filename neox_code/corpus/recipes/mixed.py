"""For code as it lies about: every file in its own language, PolyCoder's twelve languages and thresholds.

A corpus of few projects has large ones divided at their folders, so that every language can be split.
"""

from neox_code.corpus.filters.size import MaxBytes, NotBlank, NotEmpty
from neox_code.corpus.filters.tokens import MinTokens
from neox_code.corpus.languages.polycoder_names import LANGUAGES
from neox_code.corpus.languages.rules import FileLanguage
from neox_code.corpus.recipes.recipe import Recipe

RECIPE = Recipe(
    "mixed",
    languages=LANGUAGES,
    language_rule=FileLanguage(LANGUAGES),
    before_reading=(NotEmpty(), MaxBytes(1_048_576)),
    after_reading=(NotBlank(), MinTokens(100)),
    divide_large_projects=True,
)
