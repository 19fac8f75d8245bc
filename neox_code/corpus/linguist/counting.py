"""The language for which GitHub counts a file in the statistics of its repository.

    find_counted_language("src/vector.h", "class Vector;")    "C++"
    find_counted_language("src/App.tsx")                      "TypeScript": TSX is counted with it
    find_counted_language("vendor/left-pad.js")               None: vendored; also for documentation, data, prose, generated files

The totals of a repository equal those of `github-linguist`, except that .gitattributes is not read.
"""

from neox_code.corpus.linguist.detect import detect, guess_by_name
from neox_code.corpus.linguist.generated import find_path_generator, is_generated
from neox_code.corpus.linguist.paths import is_documentation, is_vendored
from neox_code.corpus.linguist.tables import GROUP, LANGUAGE_TYPES

COUNTED_TYPES = ("programming", "markup")


def find_counted_language(path: str, text: str | None = None) -> str | None:
    """Return the language that the file is counted for, or None; without `text` only the path is used."""
    language = guess_by_name(path) if text is None else detect(path, text)
    if language is None or LANGUAGE_TYPES[language] not in COUNTED_TYPES:
        return None
    if is_vendored(path) or is_documentation(path):
        return None
    generated = is_generated(path, text) if text is not None else find_path_generator(path) is not None
    return None if generated else GROUP[language]
