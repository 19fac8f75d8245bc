"""The names of files that PolyCoder takes for a language, as `extract_code.py` of Code-LMs finds them.

    languages_of("src/vector.h", ("C", "C++", "Go"))        ("C", "C++")
    is_name_of("Scala", "build.sc")                         False

Pygments' file-name patterns of the language's lexer, lower-cased and without their first character, are compared with the end of
the name as it stands. So `*.C` and `*.H` make the `.c` and `.h` files of C++ projects C++, and `main.C` has no language; `Makefile`
is Ruby (`Rakefile`) and `reconstruct` Python (`SConstruct`); a pattern with a choice in it (`*.php[345]`) matches nothing.
"""

from collections.abc import Collection
from functools import cache

from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from neox_code.errors import DataError

LANGUAGES = ("C", "C#", "C++", "Go", "Java", "JavaScript", "PHP", "Python", "Ruby", "Rust", "Scala", "TypeScript")
"""The twelve languages of PolyCoder."""


@cache
def name_ends(language: str) -> tuple[str, ...]:
    """What names of the language end with. Raises DataError if Pygments has no lexer of this name.

    >>> name_ends("C"), name_ends("TypeScript")
    (('.c', '.h', '.idc', '.x[bp]m'), ('.ts',))
    """
    try:
        patterns = get_lexer_by_name(language).filenames
    except ClassNotFound as error:
        raise DataError(f"language {language!r} has no lexer in Pygments, whose file names PolyCoder's rule goes by.") from error
    return tuple(dict.fromkeys(pattern.lower()[1:] for pattern in patterns))


def is_name_of(language: str, path: str) -> bool:
    return path.endswith(name_ends(language))


def languages_of(path: str, languages: Collection[str]) -> tuple[str, ...]:
    """Those of the languages that take a file of this name, in their order."""
    return tuple(language for language in languages if path.endswith(name_ends(language)))
