"""Languages that are described by a YAML file: its file names, its grammar, and how its programs run.

    language = find_language("lua")                        # configs/languages/lua.yml
    language = register_language("mine/zork.yml")          # the user's file, known to this process and those that it starts
    language.suffixes, language.grammar, language.run

The corpus finds files by suffix and pattern, spans by syntax use the grammar, and the evaluation runs programs by the commands.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from neox_code.errors import ConfigError, DataError
from neox_code.files import read_bounded
from neox_code.installation import PACKAGED_CONFIGS

FOLDER = PACKAGED_CONFIGS / "languages"
VARIABLE = "NEOX_CODE_LANGUAGES"
"""Environment variable with the users' language files, separated by colons; child processes inherit it."""

LISTS = ("suffixes", "programs", "compile", "run")


@dataclass(frozen=True)
class LanguageFile:
    """The content of a language file. docs/language.md has an example."""

    name: str
    """Name in a corpus: github-linguist's, if it has the language."""
    suffixes: tuple[str, ...]
    """Ends of file names, in any case."""
    pattern: str | None = None
    """Regular expression that a file of the language contains, if other languages have the same suffixes. ^ is a line's begin."""
    grammar: str | None = None
    """PACKAGE:FUNCTION of a tree-sitter grammar."""
    programs: tuple[str, ...] = ()
    """Executables that running a program needs."""
    file: str = ""
    """Name of a program's file."""
    compile: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    """Commands; the first part is among `programs`, or ./program. `run` gets one more argument, which the harness prints."""
    harness: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Name and text of a file that runs the program and prints its last argument; without one, the exit status counts."""
    reserves_memory: bool = False
    """True for a runtime that reserves more memory than it uses, such as Java's."""
    processes: int = 1
    """Processes that a program may have at once."""


@cache
def read_language(path: Path) -> LanguageFile:
    """Return the language in a YAML file. Raise ConfigError for a file with other keys or values."""
    try:
        value = yaml.safe_load(read_bounded(path))
    except DataError as error:
        raise ConfigError(str(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}. Correct it.") from None
    problems = [f"{path}: {problem}" for problem in list_problems(value)]
    if problems:
        raise ConfigError("\n".join(problems))
    return LanguageFile(**value | {key: tuple(value[key]) for key in LISTS if key in value})


def list_problems(value: Any) -> list[str]:
    """Return a sentence for each key that is missing, unknown or has another value than expected."""
    known = [each.name for each in fields(LanguageFile)]
    if not isinstance(value, dict):
        return [f"the content is no mapping of keys. Write at least name and suffixes; the keys are {', '.join(known)}."]
    found = [f"key {key!r} is unknown. The keys are {', '.join(known)}." for key in value if key not in known]
    found += [f"{key} is missing." for key in ("name", "suffixes") if not value.get(key)]
    for key in known:
        given = value.get(key)
        if key in LISTS:
            is_right = isinstance(given, list) and all(isinstance(part, str) and part for part in given)
        elif key == "harness":
            is_right = isinstance(given, dict) and [(type(name), type(text)) for name, text in given.items()] == [(str, str)]
        else:
            kinds = {"reserves_memory": bool, "processes": int}
            is_right = type(given) is kinds.get(key, str)
        if given is not None and not is_right:
            named = {"harness": "one file name with its text", "reserves_memory": "true or false", "processes": "a whole number"}
            expected = named.get(key, "text")
            found.append(f"{key} is {given!r}, expected {'a list of texts' if key in LISTS else expected}.")
    if not found and bool(value.get("file")) != bool(value.get("run")):
        found.append("file and run belong together: set both, or none.")
    if isinstance(pattern := value.get("pattern"), str):
        try:
            re.compile(pattern)
        except re.error as error:
            found.append(f"pattern {pattern!r} is no regular expression: {error}.")
    return found


def list_languages() -> dict[str, LanguageFile]:
    """Return name -> language of configs/languages/ and of the users' files. Of two with one name, the user's has priority."""
    return read_languages(os.environ.get(VARIABLE, ""))


@cache
def read_languages(users: str) -> dict[str, LanguageFile]:
    paths = (*sorted(FOLDER.glob("*.yml")), *map(Path, filter(None, users.split(os.pathsep))))
    return {language.name: language for language in map(read_language, paths)}


def find_language(name_or_file: str) -> LanguageFile | None:
    """Return the language of a name, in any case, or of a YAML file; None for another name. Raise ConfigError for a bad file."""
    if name_or_file.endswith((".yml", ".yaml")):
        return read_language(Path(name_or_file).expanduser())
    return {language.name.lower(): language for language in list_languages().values()}.get(name_or_file.lower())


def register_language(file: str) -> LanguageFile:
    """Make the language of a YAML file known to this process and to those that it starts."""
    language = read_language(Path(file).expanduser())
    path = str(Path(file).expanduser().resolve())
    known = os.environ.get(VARIABLE, "").split(os.pathsep)
    os.environ[VARIABLE] = os.pathsep.join(filter(None, [*(other for other in known if other != path), path]))
    return language
