"""File names of each language in PolyCoder, as in `extract_code.py` of Code-LMs.

    find_languages("src/vector.h", ("C", "C++", "Go"))      ("C", "C++")
    is_name_of("Scala", "build.sc")                         False

The file-name patterns of the language's Pygments lexer are changed to lower case and lose their first character. Then they are
compared with the end of the unchanged name. This has side effects: with the patterns `*.C` and `*.H`, files `.c` and `.h` can be
C++, and `main.C` has no language; `Makefile` is Ruby (`Rakefile`), and `reconstruct` is Python (`SConstruct`). A pattern with a
choice (`*.php[345]`) matches nothing.
"""

from collections.abc import Collection
from functools import cache

from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from neox_code.errors import DataError

LANGUAGES = ("C", "C#", "C++", "Go", "Java", "JavaScript", "PHP", "Python", "Ruby", "Rust", "Scala", "TypeScript")
"""The twelve languages of PolyCoder."""


@cache
def list_name_endings(language: str) -> tuple[str, ...]:
    """Return the endings of file names of the language. Raise DataError if Pygments has no lexer of this name.

    >>> list_name_endings("C"), list_name_endings("TypeScript")
    (('.c', '.h', '.idc', '.x[bp]m'), ('.ts',))
    """
    try:
        patterns = get_lexer_by_name(language).filenames
    except ClassNotFound as error:
        raise DataError(f"language {language!r} has no lexer in Pygments, which PolyCoder's rule needs. Choose another.") from error
    return tuple(dict.fromkeys(pattern.lower()[1:] for pattern in patterns))


def is_name_of(language: str, path: str) -> bool:
    return path.endswith(list_name_endings(language))


def find_languages(path: str, languages: Collection[str]) -> tuple[str, ...]:
    """Return the members of `languages`, in their order, that are possible for a file of this name."""
    return tuple(language for language in languages if path.endswith(list_name_endings(language)))
