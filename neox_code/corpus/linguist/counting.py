"""What GitHub counts when it says in which language a repository is written.

    counted_language("src/vector.h", "class Vector;")       "C++"
    counted_language("src/App.tsx")                         "TypeScript": TSX is counted with it
    counted_language("vendor/left-pad.js")                  None: nor are documentation, data, prose and generated files

The sums of a repository are those of `github-linguist`, but for what its .gitattributes says.
"""

from neox_code.corpus.linguist.data import GROUP, LANGUAGE_TYPES
from neox_code.corpus.linguist.detect import by_name_alone, detect
from neox_code.corpus.linguist.generated import generator_of_path, is_generated
from neox_code.corpus.linguist.paths import is_documentation, is_vendored

COUNTED_TYPES = ("programming", "markup")


def counted_language(path: str, text: str | None = None) -> str | None:
    """The language for which the bytes of a file count; without its text as far as its path tells."""
    language = by_name_alone(path) if text is None else detect(path, text)
    if language is None or LANGUAGE_TYPES[language] not in COUNTED_TYPES:
        return None
    if is_vendored(path) or is_documentation(path):
        return None
    generated = is_generated(path, text) if text is not None else generator_of_path(path) is not None
    return None if generated else GROUP[language]
