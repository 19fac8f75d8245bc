"""A recipe for any mixture of code: PolyCoder's twelve languages and thresholds, but each file has its own language.

Large projects are divided at their folders, so that a corpus of few projects can be split into train, valid and test.
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
