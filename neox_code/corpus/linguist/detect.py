r"""The language of a file, as GitHub's linguist finds it.

    find_by_name("src/vector.h")                     ("C", "C++", "Objective-C")
    detect("src/vector.h", "class Vector;")     "C++"
    detect("bin/deploy", "#!/bin/sh\n")         "Shell"
    detect("notes", "Bread, milk.")             None

Linguist's strategies are tried in linguist's order: modeline, file name, interpreter, extension, XML, manual page, heuristics for
the content. If several languages remain, linguist uses a classifier trained on samples; here `choose_language` chooses. Few files
need the classifier; README.md has the figures.
"""

import re
from collections.abc import Sequence
from functools import cache

from neox_code.corpus.linguist.content import is_xml, read_interpreter, read_modeline
from neox_code.corpus.linguist.heuristics import match_heuristics
from neox_code.corpus.linguist.tables import (
    BY_EXTENSION,
    BY_FILE_NAME,
    BY_INTERPRETER,
    GENERIC_EXTENSIONS,
    LANGUAGES,
    POPULAR,
)

MANUAL_PAGE = re.compile(r"\.(?:[1-9](?![0-9])[a-z_0-9]*|0p|n|man|mdoc)(?:\.in)?$", re.IGNORECASE | re.ASCII)


def find_by_extension(name: str) -> tuple[str, ...]:
    """Return the languages of the longest known extension of the name.

    >>> find_by_extension("index.html.erb"), find_by_extension("main.rs"), find_by_extension("LICENSE")
    (('HTML+ERB',), ('RenderScript', 'Rust', 'XML'), ())
    """
    name = name.lower()
    dot = name.find(".")
    while dot >= 0:
        languages = BY_EXTENSION.get(name[dot:])
        if languages:
            return languages
        dot = name.find(".", dot + 1)
    return ()


def find_by_name(path: str) -> tuple[str, ...]:
    """Return the languages that are possible for the file name, in linguist's order."""
    name = path[path.rfind("/") + 1 :]
    return BY_FILE_NAME.get(name) or find_by_extension(name)


def guess_by_name(path: str) -> str | None:
    """Return the most likely language of a file from its name alone, as if no heuristic matched its content.

    >>> guess_by_name("vector.h"), guess_by_name("app.ts"), guess_by_name("schema.php"), guess_by_name("table.inc")
    ('C', 'TypeScript', 'PHP', None)
    """
    languages = find_by_name(path)
    return languages[0] if len(languages) == 1 else guess_language(languages, get_last_extension(path))


@cache
def guess_language(languages: tuple[str, ...], extension: str) -> str | None:
    return choose_language(match_heuristics(extension, "") or languages, extension)


def detect(path: str, text: str) -> str | None:
    """Return the language of the file; None if the text is empty or the language is unknown to linguist."""
    if not text:
        return None
    name = path[path.rfind("/") + 1 :]
    declared = read_modeline(text)
    if declared is not None:
        return declared
    languages = BY_FILE_NAME.get(name, ())
    if len(languages) != 1:
        languages = narrow_candidates(languages, BY_INTERPRETER.get(read_interpreter(text) or "", ()))
    if len(languages) != 1 and not name.lower().endswith(GENERIC_EXTENSIONS):
        languages = narrow_candidates(languages, find_by_extension(name))
    if not languages and is_xml(text):
        return "XML"
    if not languages and MANUAL_PAGE.search(name):
        languages = ("Roff Manpage", "Roff")
    if len(languages) != 1:
        extension = get_last_extension(name)
        languages = match_heuristics(extension, text) or languages
        return choose_language(languages, extension)
    return languages[0]


def narrow_candidates(candidates: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the languages in both tuples. If there is none, return `candidates`; if `candidates` is empty, return `others`."""
    if not candidates:
        return others
    return tuple(language for language in candidates if language in others) or candidates


def get_last_extension(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""


def choose_language(languages: Sequence[str], extension: str) -> str | None:
    """Return the only popular language; else the only one whose first extension is `extension`; else None.

    >>> choose_language(("Hack", "PHP"), ".php"), choose_language(("GAP", "GDScript"), ".gd")
    ('PHP', 'GDScript')
    >>> choose_language(("C++", "HTML", "PHP", "Pascal"), ".inc")
    """
    if len(languages) > 1:
        languages = [language for language in languages if language in POPULAR] or [
            language for language in languages if LANGUAGES[language].get("extensions", [""])[0].lower() == extension
        ]
    return languages[0] if len(languages) == 1 else None
