"""PolyCoder's corpus (Xu et al. 2022, section 4.1), file for file as `extract_code.py` and `deduplicate.py` of Code-LMs make it.

Code-LMs drops an empty file for too few tokens; here its drop reason is `empty`. Of identical files, Code-LMs keeps the first in
the order of the file system. Here the file of the project with the most stars is kept; within a project, the first by path.

Three accidents of `extract_code.py` are not reproduced. It reads links to files as files; here they are not followed. It copies
each file to its path with `__` for every slash. It therefore keeps one of several files with the same resulting name (a/b.c and
a__b.c), and no file whose name has more than 255 bytes; here all of them are kept.
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
