"""The language of a file, as GitHub's linguist finds it.

    by_name("src/vector.h")                     ("C", "C++", "Objective-C")
    detect("src/vector.h", "class Vector;")     "C++"
    detect("bin/deploy", "#!/bin/sh\n")         "Shell"
    detect("notes", "Bread, milk.")             None

Linguist's strategies in linguist's order: modeline, file name, interpreter, extension, XML, manual page, rules by content. Where
several languages are left it asks a classifier trained on samples; here `settle` decides. A file whose language only the
classifier tells apart is rare: README.md has the figures.
"""

import re
from collections.abc import Sequence
from functools import cache

from neox_code.corpus.linguist.content import interpreter, is_xml, modeline
from neox_code.corpus.linguist.data import (
    BY_EXTENSION,
    BY_FILE_NAME,
    BY_INTERPRETER,
    GENERIC_EXTENSIONS,
    LANGUAGES,
    POPULAR,
)
from neox_code.corpus.linguist.heuristics import by_content

MANUAL_PAGE = re.compile(r"\.(?:[1-9](?![0-9])[a-z_0-9]*|0p|n|man|mdoc)(?:\.in)?$", re.IGNORECASE | re.ASCII)


def by_extension(name: str) -> tuple[str, ...]:
    """The languages of the longest extension of the name that has any.

    >>> by_extension("index.html.erb"), by_extension("main.rs"), by_extension("LICENSE")
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


def by_name(path: str) -> tuple[str, ...]:
    """The languages that the file can be in by its name, in linguist's order."""
    name = path[path.rfind("/") + 1 :]
    return BY_FILE_NAME.get(name) or by_extension(name)


def by_name_alone(path: str) -> str | None:
    """The likeliest language of a file that is not read: linguist's where no rule by content holds.

    >>> by_name_alone("vector.h"), by_name_alone("app.ts"), by_name_alone("schema.php"), by_name_alone("table.inc")
    ('C', 'TypeScript', 'PHP', None)
    """
    languages = by_name(path)
    return languages[0] if len(languages) == 1 else likeliest(languages, last_extension(path))


@cache
def likeliest(languages: tuple[str, ...], extension: str) -> str | None:
    return settle(by_content(extension, "") or languages, extension)


def detect(path: str, text: str) -> str | None:
    """The file's language; None if it is empty, or if linguist knows none."""
    if not text:
        return None
    name = path[path.rfind("/") + 1 :]
    declared = modeline(text)
    if declared is not None:
        return declared
    languages = BY_FILE_NAME.get(name, ())
    if len(languages) != 1:
        languages = narrowed(languages, BY_INTERPRETER.get(interpreter(text) or "", ()))
    if len(languages) != 1 and not name.lower().endswith(GENERIC_EXTENSIONS):
        languages = narrowed(languages, by_extension(name))
    if not languages and is_xml(text):
        return "XML"
    if not languages and MANUAL_PAGE.search(name):
        languages = ("Roff Manpage", "Roff")
    if len(languages) != 1:
        extension = last_extension(name)
        languages = by_content(extension, text) or languages
        return settle(languages, extension)
    return languages[0]


def narrowed(candidates: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """The candidates that are among the others; where there are none of either, those of the other."""
    if not candidates:
        return others
    return tuple(language for language in candidates if language in others) or candidates


def last_extension(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""


def settle(languages: Sequence[str], extension: str) -> str | None:
    """Of several languages that no rule tells apart, the only popular one, else the only one that has the extension as its first.

    >>> settle(("Hack", "PHP"), ".php"), settle(("GAP", "GDScript"), ".gd"), settle(("C++", "HTML", "PHP", "Pascal"), ".inc")
    ('PHP', 'GDScript', None)
    """
    if len(languages) > 1:
        languages = [language for language in languages if language in POPULAR] or [
            language for language in languages if LANGUAGES[language].get("extensions", [""])[0].lower() == extension
        ]
    return languages[0] if len(languages) == 1 else None
