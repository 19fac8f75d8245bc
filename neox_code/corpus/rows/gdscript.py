"""Rows for fine-tuning from GDScript: one row per function; its author's comment is the instruction.

    for row in GDScriptFunctions().rows(document, "4"):
        row                                              {"instruction": "Adds.", "output": "func add(a, b): ...", "version": "4"}

With `faithful=True` the rows equal those of godot-dodo. A file is split at each "func ", also in comments and strings. A function
ends at its first empty line. Only the first project of a repository has rows, if its Godot version is 3 or 4.
The instruction of a function without a comment is ""; tools/label_rows.py can add it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from neox_code.corpus.rows.gdscript_source import find_gdscript_functions
from neox_code.corpus.rows.protocol import find_nearest_version
from neox_code.corpus.shards import Document

PROJECT_FILE = "project.godot"
FEATURES = 'config/features=PackedStringArray("'
FEATURE_LIST = re.compile(r"^config/features\s*=\s*PackedStringArray\(([^)]*)\)", re.MULTILINE)
ENGINE = re.compile(r'"(\d+)\.\d+[^"]*"')
CONFIG_VERSION = re.compile(r"^config_version\s*=\s*(\d+)", re.MULTILINE)
VERSION_OF_CONFIG = {3: "3", 4: "3", 5: "4"}
"""`config_version` in project.godot -> major version of Godot. Godot 3.0, 3.1 and 4.0 introduced the versions 3, 4 and 5."""


@dataclass(frozen=True)
class GDScriptFunctions:
    faithful: bool = False
    name = "functions of GDScript"

    def is_version_file(self, path: str) -> bool:
        return path.rpartition("/")[2] == PROJECT_FILE

    def read_version(self, text: str) -> str | None:
        return read_first_feature(text) if self.faithful else read_godot_version(text)

    def find_version(self, path: str, versions: Mapping[str, str]) -> str | None:
        return find_version_of_first_project(path, versions) if self.faithful else find_nearest_version(path, versions)

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]:
        if not self.faithful:
            for function in find_gdscript_functions(document.text):
                yield {"instruction": function.description, "output": function.code, "version": project_version or ""}
        elif project_version in ("3", "4"):
            for piece in document.text.split("func ")[1:]:
                yield {"instruction": "", "output": cut_at_unindented_line(piece), "version": project_version}


def read_godot_version(text: str) -> str | None:
    """Return Godot's major version from the text of a project.godot: from its list of features, else from its `config_version`.

    >>> read_godot_version('config_version=5\\n[application]\\nconfig/features=PackedStringArray("C#", "4.2")')
    '4'
    >>> read_godot_version("config_version=4"), read_godot_version("")
    ('3', None)
    """
    features = FEATURE_LIST.search(text)
    engine = ENGINE.search(features[1]) if features else None
    if engine is not None:
        return engine[1]
    format = CONFIG_VERSION.search(text)
    return VERSION_OF_CONFIG.get(int(format[1])) if format else None


def read_first_feature(text: str) -> str:
    """Return Godot's major version as godot-dodo reads it: the first character in the list of features; "3" without a list.

    >>> read_first_feature('config/features=PackedStringArray("4.2")'), read_first_feature("config_version=5")
    ('4', '3')
    """
    line = next((line for line in text.split("\n") if FEATURES in line), None)
    return "3" if line is None else line.replace(FEATURES, "").strip()[:1]


def find_version_of_first_project(path: str, versions: Mapping[str, str]) -> str | None:
    """Return the Godot version of a repository's first project if the file is in the project's folder; None for other files.

    `versions` maps the folder of each project to its version. godot-dodo takes the first project in the order of the file system;
    here it is the first by name.

    >>> versions = {"demo": "3", "demo/new": "4", "game": "4"}
    >>> [find_version_of_first_project(path, versions) for path in ("demo/new/a.gd", "demo/a.gd", "demo.gd", "game/a.gd")]
    ['3', '3', None, None]
    """
    first = min(versions, key=lambda folder: folder.split("/") if folder else [], default=None)
    return versions[first] if first is not None and path.startswith(f"{first}/" if first else "") else None


def cut_at_unindented_line(piece: str) -> str:
    """Return the code of a function as godot-dodo does: `piece` (a text after "func ") up to its first line without indentation."""
    first, *others = f"func {piece}".splitlines()
    kept = [first]
    for line in others:
        if not line[:1].isspace():
            break
        kept.append(line)
    return "".join(f"{line}\n" for line in kept)
