"""Rows of GDScript for fine-tuning: a function each, with what its author says of it as the instruction.

    for row in GDScriptFunctions().rows(document, "4"):
        row                                              {"instruction": "Adds.", "output": "func add(a, b): ...", "version": "4"}

With `faithful=True` rows are those of godot-dodo, to the letter: a file is split at each "func ", in comments and strings as well,
a function ends at its first empty line, and only the first project of a repository has any, if it is of version 3 or 4. An
instruction that is "" is one for tools/label_rows.py to ask for.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from neox_code.corpus.rows.gdscript_source import gdscript_functions
from neox_code.corpus.rows.protocol import nearest_version
from neox_code.corpus.shards import Document

PROJECT_FILE = "project.godot"
FEATURES = 'config/features=PackedStringArray("'
FEATURE_LIST = re.compile(r"^config/features\s*=\s*PackedStringArray\(([^)]*)\)", re.MULTILINE)
ENGINE = re.compile(r'"(\d+)\.\d+[^"]*"')
CONFIG_VERSION = re.compile(r"^config_version\s*=\s*(\d+)", re.MULTILINE)
VERSION_OF_CONFIG = {3: "3", 4: "3", 5: "4"}
"""Of the file's format, by the first version of Godot that writes it: 3.0, 3.1, 4.0."""


@dataclass(frozen=True)
class GDScriptFunctions:
    faithful: bool = False
    name = "functions of GDScript"

    def says_version(self, path: str) -> bool:
        return path.rpartition("/")[2] == PROJECT_FILE

    def version(self, text: str) -> str | None:
        return version_as_godot_dodo(text) if self.faithful else version_of(text)

    def version_at(self, path: str, versions: Mapping[str, str]) -> str | None:
        return version_at_as_godot_dodo(path, versions) if self.faithful else nearest_version(path, versions)

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]:
        if not self.faithful:
            for function in gdscript_functions(document.text):
                yield {"instruction": function.description, "output": function.code, "version": project_version or ""}
        elif project_version in ("3", "4"):
            for piece in document.text.split("func ")[1:]:
                yield {"instruction": "", "output": function_as_godot_dodo(piece), "version": project_version}


def version_of(text: str) -> str | None:
    """The major version of Godot that a project.godot is of: the one among its features, else that of the file's format.

    >>> version_of('config_version=5\\n[application]\\nconfig/features=PackedStringArray("C#", "4.2")')
    '4'
    >>> version_of("config_version=4"), version_of("")
    ('3', None)
    """
    features = FEATURE_LIST.search(text)
    engine = ENGINE.search(features[1]) if features else None
    if engine is not None:
        return engine[1]
    format = CONFIG_VERSION.search(text)
    return VERSION_OF_CONFIG.get(int(format[1])) if format else None


def version_as_godot_dodo(text: str) -> str:
    """The character after the beginning of the list of features; 3 where there is no such list.

    >>> version_as_godot_dodo('config/features=PackedStringArray("4.2")'), version_as_godot_dodo("config_version=5")
    ('4', '3')
    """
    line = next((line for line in text.split("\n") if FEATURES in line), None)
    return "3" if line is None else line.replace(FEATURES, "").strip()[:1]


def version_at_as_godot_dodo(path: str, versions: Mapping[str, str]) -> str | None:
    """Of several projects in a repository godot-dodo takes the first that it meets, and all that lies in its folder, but no more.

    What it meets first is the file system's to say; here folders are walked in the order of their names.

    >>> told = {"demo": "3", "demo/new": "4", "game": "4"}
    >>> [version_at_as_godot_dodo(path, told) for path in ("demo/new/a.gd", "demo/a.gd", "demo.gd", "game/a.gd")]
    ['3', '3', None, None]
    """
    first = min(versions, key=lambda folder: folder.split("/") if folder else [], default=None)
    return versions[first] if first is not None and path.startswith(f"{first}/" if first else "") else None


def function_as_godot_dodo(piece: str) -> str:
    """What follows a "func ", up to the first line that does not begin with white space."""
    first, *others = f"func {piece}".splitlines()
    kept = [first]
    for line in others:
        if not line[:1].isspace():
            break
        kept.append(line)
    return "".join(f"{line}\n" for line in kept)
