"""Linguist's tables of languages, file names and paths.

    LANGUAGE_TYPES["Kotlin"]            "programming"; also "markup", "data", "prose"
    GROUP["TSX"]                        "TypeScript": the language that TSX is counted as
    BY_EXTENSION[".h"]                  ("C", "C++", "Objective-C")

Languages are in linguist's order, which is alphabetical.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def load_table(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return table


LANGUAGES = load_table("languages.json")
PATHS = load_table("paths.json")
VERSION: str = PATHS["version"]


def index_languages(key: str) -> dict[str, tuple[str, ...]]:
    """Return value -> languages for the key `extensions`, `filenames` or `interpreters`; languages are in linguist's order."""
    table = defaultdict[str, list[str]](list)
    for language, entry in LANGUAGES.items():
        for value in entry.get(key, ()):
            table[value.lower() if key == "extensions" else value].append(language)
    return {value: tuple(languages) for value, languages in table.items()}


def list_aliases() -> Iterable[tuple[str, str]]:
    for language, entry in LANGUAGES.items():
        yield "-".join(language.lower().split()), language
        for alias in entry.get("aliases", ()):
            yield alias.lower(), language


LANGUAGE_TYPES: dict[str, str] = {language: entry["type"] for language, entry in LANGUAGES.items()}
GROUP: dict[str, str] = {language: entry.get("group", language) for language, entry in LANGUAGES.items()}
POPULAR = frozenset(language for language, entry in LANGUAGES.items() if entry.get("popular"))
GENERIC_EXTENSIONS: tuple[str, ...] = tuple(PATHS["generic_extensions"])
BY_EXTENSION = index_languages("extensions")
BY_FILE_NAME = index_languages("filenames")
BY_INTERPRETER = index_languages("interpreters")
BY_ALIAS: dict[str, str] = dict(list_aliases())
