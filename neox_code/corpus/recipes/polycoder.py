"""PolyCoder's corpus (Xu et al. 2022, section 4.1), file for file as `extract_code.py` and `deduplicate.py` of Code-LMs make it.

There an empty file falls to the minimum of tokens; here it is counted by itself. Of identical files there the one that the file
system lists first survives, here the one of the project with most stars, then of the first path.

Three accidents of `extract_code.py` are left out. It reads links to files like files; here they are not followed. It copies a
file to its path with `__` for every slash: of several that come to one name (a/b.c and a__b.c) it keeps one, and none whose name
has more than 255 bytes; here they are all kept.
"""

from neox_code.corpus.filters.size import MaxBytes, NotEmpty
from neox_code.corpus.filters.tokens import MinTokens
from neox_code.corpus.languages.polycoder_names import LANGUAGES
from neox_code.corpus.languages.rules import ProjectLanguage
from neox_code.corpus.recipes.recipe import Recipe

RECIPE = Recipe(
    "polycoder",
    languages=LANGUAGES,
    language_rule=ProjectLanguage(LANGUAGES),
    before_reading=(NotEmpty(), MaxBytes(1_048_576)),  # MAX_FILE_SIZE
    after_reading=(MinTokens(100),),  # MIN_FILE_TOKENS
    decoding="utf-8 ignoring errors",
)
