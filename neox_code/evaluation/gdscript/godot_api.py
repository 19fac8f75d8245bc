"""Classes, methods, properties, signals and constants of Godot 4, and the names of Godot 3 that it no longer has.

    api = load_api()
    api.find_member("Button", "pressed").kind          # "signal", inherited from BaseButton
    api.find_member("Button", "set_pos")               # None

godot_api.json.xz holds names and types of the engine's class reference (4.7, MIT); of classes that scripts seldom use it holds
the name and the base class alone, and nothing is known about their members. A method is written "static Color(int,int,int,int)3":
return type, types of the arguments, number of arguments without a default; "+" at the end: any number of further arguments.
names.json holds the names of Godot 3 and explains its tables.
"""

import functools
import json
import lzma
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent

SIGNATURE = re.compile(r"(static )?(.+?)\((.*)\)(\d+)(\+?)")

GLOBAL_SCOPES = ("@GDScript", "@GlobalScope")


@dataclass(frozen=True)
class Signature:
    returns: str
    arguments: tuple[str, ...]
    required: int
    is_static: bool = False
    takes_more: bool = False

    def takes(self, count: int) -> bool:
        return self.required <= count and (self.takes_more or count <= len(self.arguments))


@dataclass(frozen=True)
class Member:
    kind: Literal["method", "property", "signal", "constant", "enum"]
    type: str | None = None
    """Type of a property; None for other members."""
    signature: Signature | None = None


class GodotApi:
    """The tables, with searches by class and by name."""

    def __init__(self, version_4: dict[str, Any], names: dict[str, Any]) -> None:
        self.names = names
        self.classes: dict[str, Any] = version_4["classes"]
        self.other_names = frozenset(version_4["other_names"]) - names["functions"].keys() - names["properties"].keys()
        """Names of members of the classes whose members are not listed."""
        self.singletons: dict[str, str] = self.classes["@GlobalScope"]["properties"]
        self.classes["@GDScript"]["methods"]["assert"] = "void(Variant,String)1"  # its condition may have any type
        self.global_constants = {name for scope in GLOBAL_SCOPES for name in self.classes[scope].get("constants", ())}
        self.property_names: set[str] = set()
        self.owners_of_method: dict[str, list[str]] = defaultdict(list)
        self.subclasses: dict[str | None, list[str]] = defaultdict(list)
        for owner, fields in self.classes.items():
            added = [pattern.partition(".")[2] for pattern in names["added"] if fnmatch(owner, pattern.partition(".")[0])]
            for name in [name for name in fields.get("methods", ()) if any(fnmatch(name, each) for each in added)]:
                del fields["methods"][name]
            self.subclasses[fields.get("inherits")].append(owner)
            for kind in ("properties", "signals", "constants", "enums"):
                self.property_names.update(fields.get(kind, ()))
            for name in fields.get("methods", ()):
                self.owners_of_method[name].append(owner)

    def list_ancestors(self, name: str | None) -> Iterator[str]:
        """Yield a class and its base classes."""
        while name is not None:
            yield name
            name = self.classes[name].get("inherits")

    def is_derived(self, name: str, base: str) -> bool:
        return base in self.list_ancestors(name)

    def is_object(self, name: str) -> bool:
        """Return True for a class of objects, False for a built-in type such as Vector2 or an unknown name."""
        return name in self.classes and self.is_derived(name, "Object")

    def has_members(self, name: str) -> bool:
        """Return True if the members of a class and of its base classes are known."""
        return name in self.classes and all(self.classes[each].keys() - {"inherits"} for each in self.list_ancestors(name))

    def find_member(self, owner: str, name: str) -> Member | None:
        """Return a member of a class or of its base classes; None if there is none."""
        for each in self.list_ancestors(owner):
            fields = self.classes[each]
            if name in fields.get("methods", ()):
                return Member("method", None, parse_signature(fields["methods"][name]))
            if name in fields.get("properties", ()):
                return Member("property", fields["properties"][name])
            if name in fields.get("signals", ()):
                return Member("signal", "Signal")
            if name in fields.get("constants", ()):
                return Member("constant", each if each not in GLOBAL_SCOPES and not self.is_object(each) else None)
            if name in fields.get("enums", ()):
                return Member("enum")
        return None

    def find_in_subclass(self, owner: str, name: str) -> bool:
        """Return True if a class below `owner` has a member of the name, or may have it since its members are not known."""
        return any(
            (not self.has_members(each) and name in self.other_names)
            or self.find_member(each, name) is not None
            or self.find_in_subclass(each, name)
            for each in self.subclasses[owner]
        )

    def list_signatures(self, method: str, base: str | None = None) -> list[Signature]:
        """Return the signatures of all methods of a name, in the classes derived from `base` or in all."""
        owners = [each for each in self.owners_of_method.get(method, ()) if base is None or self.is_derived(each, base)]
        return [parse_signature(self.classes[each]["methods"][method]) for each in owners]

    def list_constructors(self, name: str) -> list[Signature]:
        """Return the constructors of a built-in type."""
        return [parse_signature(each) for each in self.classes[name].get("constructors", ())]


@functools.cache
def parse_signature(text: str) -> Signature:
    match = SIGNATURE.fullmatch(text)
    assert match is not None, text
    static, returns, arguments, required, more = match.groups()
    return Signature(returns, tuple(arguments.split(",")) if arguments else (), int(required), bool(static), bool(more))


@functools.cache
def load_api() -> GodotApi:
    version_4 = json.loads(lzma.decompress((FOLDER / "godot_api.json.xz").read_bytes()))
    return GodotApi(version_4, json.loads((FOLDER / "names.json").read_text()))
