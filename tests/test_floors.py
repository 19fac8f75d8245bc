"""The walls of the house: which way imports run, read from the source with ast, function bodies included.

Floors, doors, torchless rooms and optional dependencies stand in pyproject.toml under [tool.neox_code].
"""

import ast
import functools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "neox_code"
BRINGS_TORCH = ("torch", "deepspeed", "megatron", "transformers")
IMPORT_CALLS = ("importlib.import_module", "import_module", "__import__")
GROUND_EXCEPTIONS = {("logs", "errors"), ("files", "errors")}


@dataclass(frozen=True)
class Import:
    """One imported name, in full."""

    name: str
    line: int
    is_deferred: bool
    """Inside a function."""

    is_relative: bool = False


@dataclass
class House:
    """A project's source, and what its pyproject.toml says of it."""

    root: Path
    rules: dict = field(init=False)
    imports: dict[Path, list[Import]] = field(init=False)

    def __post_init__(self) -> None:
        self.rules = tomllib.loads((self.root / "pyproject.toml").read_text())["tool"]["neox_code"]
        files = [*(self.root / PACKAGE).rglob("*.py"), *(self.root / "tools").rglob("*.py"), self.root / "deepy.py"]
        self.imports = {
            file.relative_to(self.root): list(imports_of(ast.parse(file.read_text()))) for file in files if file.exists()
        }

    def floor(self, room: str) -> int:
        return next((number for number, floor in enumerate(self.rules["floors"]) if room in floor), -1)


def imports_of(tree: ast.AST, is_deferred: bool = False) -> Iterator[Import]:
    """Every import below a node: statements, and importlib's calls with a constant name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, is_deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module or ''}.{alias.name}" for alias in node.names)
            yield from (Import(name, node.lineno, is_deferred, node.level > 0) for name in names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORT_CALLS and isinstance(node.args[0], ast.Constant):
            yield Import(str(node.args[0].value), node.lineno, True)
        yield from imports_of(node, is_deferred or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def is_below(name: str, package: str) -> bool:
    """Whether an imported name is a package or something in it."""
    return name == package or name.startswith(f"{package}.")


def room_of(file: Path) -> str | None:
    """The room a file of the package stands in; None outside of the package, and for the package's own __init__."""
    if file.parts[0] != PACKAGE or file == Path(PACKAGE, "__init__.py"):
        return None
    return Path(file.parts[1]).stem


def imported_room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


# ---- the rules, each a list of sentences


def imports_upward(house: House) -> Iterator[str]:
    for file, imports in house.imports.items():
        room = room_of(file)
        for found in imports:
            other = imported_room(found.name)
            if room is None or other in (None, room) or (room, other) in GROUND_EXCEPTIONS:
                continue
            if house.floor(other) >= house.floor(room):
                yield (
                    f"{file}:{found.line} imports {found.name}: {other} is on floor {house.floor(other)}, {room} on floor "
                    f"{house.floor(room)}, and imports go down only. Move what both need to a lower floor, or pass it in."
                )


def rooms_without_a_floor(house: House) -> Iterator[str]:
    rooms = {room for file in house.imports if (room := room_of(file)) is not None}
    for room in sorted(rooms):
        if house.floor(room) < 0:
            yield f"{PACKAGE}/{room} has no floor. Enter it in floors of pyproject.toml, above all that it imports."


def imports_out_of_place(house: House) -> Iterator[str]:
    for file, imports in house.imports.items():
        for found in imports:
            if found.is_relative:
                yield f"{file}:{found.line} imports relatively. Write the name in full: from {PACKAGE}.ROOM.MODULE import NAME."
            if not found.is_deferred:
                continue
            optional = [name for name in house.rules["optional"] if is_below(found.name, name)]
            if not any(is_at_door(file, house.rules["doors"].get(name, [])) for name in optional):
                yield (
                    f"{file}:{found.line} imports {found.name} inside a function. Put it at the top of the module; "
                    "only an optional dependency may wait, behind its door."
                )


def packages_that_are_not_empty(house: House) -> Iterator[str]:
    for file in house.imports:
        if file.name == "__init__.py" and file != Path(PACKAGE, "__init__.py") and (house.root / file).read_text():
            yield f"{file} is not empty. Import names from the modules that define them."


def is_at_door(file: Path, places: list[str]) -> bool:
    inside = file.relative_to(PACKAGE).as_posix() if file.parts[0] == PACKAGE else ""
    return any(inside.startswith(place) if place.endswith("/") else inside == place for place in places)


def imports_beside_the_door(house: House) -> Iterator[str]:
    for dependency, places in house.rules["doors"].items():
        for file, imports in house.imports.items():
            for found in imports:
                if is_below(found.name, dependency) and not is_at_door(file, places):
                    door = " or ".join(places)
                    yield f"{file}:{found.line} imports {found.name}, whose door is {door}. Go through a function there."


def torch_in_torchless_rooms(house: House) -> Iterator[str]:
    for file in house.imports:
        if room_of(file) in house.rules["torchless"]["rooms"]:
            chain = way_to_torch(house, file, set())
            if chain:
                way = " -> ".join(chain)
                yield f"{file} brings in torch: {way}. Take plain values, or move the function to a room with torch."


def way_to_torch(house: House, file: Path, seen: set[Path]) -> list[str]:
    """The imports that lead from a file to torch, through modules of our own; empty where there is no way."""
    seen.add(file)
    for found in house.imports[file]:
        if any(is_below(found.name, heavy) for heavy in BRINGS_TORCH):
            return [f"{file}:{found.line}", found.name]
        module = module_file(house, found.name)
        if module is not None and module not in seen and (chain := way_to_torch(house, module, seen)):
            return [f"{file}:{found.line}", *chain]
    return []


def module_file(house: House, name: str) -> Path | None:
    """The file of a module of our own, or of the module in which a name is."""
    parts = name.split(".")
    candidates = (Path(*parts[:-1], f"{parts[-1]}.py"), Path(*parts[:-2], f"{parts[-2]}.py") if len(parts) > 1 else None)
    return next((file for file in candidates if file in house.imports), None)


def imports_of_tools(house: House) -> Iterator[str]:
    for file, imports in house.imports.items():
        for found in imports:
            if file.parts[0] == PACKAGE and found.name.partition(".")[0] in ("tools", "deepy", "tests"):
                yield f"{file}:{found.line} imports {found.name}. tools/ is around the package: move the function into {PACKAGE}/."


RULES = (
    imports_upward,
    rooms_without_a_floor,
    imports_out_of_place,
    packages_that_are_not_empty,
    imports_beside_the_door,
    torch_in_torchless_rooms,
    imports_of_tools,
)


@functools.cache
def this_house() -> House:
    return House(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_has_no(rule):
    assert list(rule(this_house())) == []


def test_the_whole_package_is_read():
    read = this_house().imports
    assert {Path("deepy.py"), Path(PACKAGE, "errors.py"), Path(PACKAGE, "config", "neox.py")} <= read.keys()
    assert {found.name for found in read[Path("deepy.py")]} >= {"os", "neox_code.launch.supervise.run"}


PYPROJECT = """
[tool.neox_code]
floors = [["errors", "logs", "files"], ["config"], ["model", "data"], ["commands"]]
optional = ["wandb"]
[tool.neox_code.doors]
"megatron.core" = ["model/"]
wandb = ["data/trackers.py"]
[tool.neox_code.torchless]
rooms = ["errors", "config"]
"""

PLANTED = [
    (imports_upward, "neox_code/config/a.py", "from neox_code.model.gpt import x", "model is on floor 2, config on floor 1"),
    (imports_upward, "neox_code/model/a.py", "import neox_code.data.b", "data is on floor 2, model on floor 2"),
    (imports_upward, "neox_code/model/a.py", "from neox_code import data", "data is on floor 2, model on floor 2"),
    (imports_upward, "neox_code/errors.py", "from neox_code.logs import x", "logs is on floor 0, errors on floor 0"),
    (imports_upward, "neox_code/config/a.py", "if TYPE_CHECKING:\n    import neox_code.model.gpt", "neox_code/config/a.py:2"),
    (imports_upward, "neox_code/config/a.py", "def f():\n    import neox_code.model.gpt", "neox_code/config/a.py:2"),
    (rooms_without_a_floor, "neox_code/attic/a.py", "", "neox_code/attic has no floor."),
    (rooms_without_a_floor, "neox_code/cellar.py", "", "neox_code/cellar has no floor."),
    (
        imports_out_of_place,
        "neox_code/model/a.py",
        "def f():\n    import json",
        "neox_code/model/a.py:2 imports json inside a function.",
    ),
    (
        imports_out_of_place,
        "neox_code/model/a.py",
        "class A:\n    def f(self):\n        from os import path",
        "imports os.path inside",
    ),
    (imports_out_of_place, "neox_code/model/a.py", "x = importlib.import_module('json')", "imports json inside a function."),
    (imports_out_of_place, "neox_code/data/other.py", "def f():\n    import wandb", "imports wandb inside a function."),
    (imports_out_of_place, "neox_code/model/a.py", "from . import b", "imports relatively."),
    (imports_out_of_place, "tools/a.py", "def f():\n    import json", "tools/a.py:2 imports json inside a function."),
    (packages_that_are_not_empty, "neox_code/model/__init__.py", "x = 1", "neox_code/model/__init__.py is not empty."),
    (imports_beside_the_door, "neox_code/data/a.py", "from megatron import core", "whose door is model/."),
    (imports_beside_the_door, "neox_code/data/a.py", "def f():\n    import megatron.core.x", "whose door is model/."),
    (imports_beside_the_door, "tools/a.py", "import wandb", "whose door is data/trackers.py."),
    (torch_in_torchless_rooms, "neox_code/config/a.py", "import torch.nn as nn", "neox_code/config/a.py:1 -> torch.nn."),
    (torch_in_torchless_rooms, "neox_code/config/a.py", "from neox_code.model.heavy import f", "heavy.py:1 -> torch."),
    (imports_of_tools, "neox_code/model/a.py", "from tools.b import c", "tools/ is around the package"),
]


@pytest.fixture
def planted(tmp_path):
    """A small house in which a file can be planted."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    files = {
        "neox_code/__init__.py": "",
        "neox_code/errors.py": "import os\n",
        "neox_code/logs.py": "from neox_code.errors import x\n",
        "neox_code/model/heavy.py": "import torch\nimport megatron.core\nfrom neox_code.config.light import x\n",
        "neox_code/config/light.py": "from neox_code.errors import x\n",
        "neox_code/data/trackers.py": "def f():\n    import wandb\n",
        "neox_code/commands/train.py": "from neox_code.model import heavy\nfrom neox_code.data import trackers\n",
        "tools/tool.py": "from neox_code.model import heavy\n",
    }

    def plant(name: str, text: str) -> House:
        for file, content in {**files, name: text}.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(content)
        return House(tmp_path)

    return plant


@pytest.mark.parametrize(("rule", "file", "text", "sentence"), PLANTED)
def test_a_planted_violation_is_found(planted, rule, file, text, sentence):
    found = list(rule(planted(file, text)))
    assert len(found) == 1
    assert sentence in found[0]


def test_a_house_in_order_has_no_violations(planted):
    house = planted("neox_code/model/gpt.py", "from neox_code.errors import x\nfrom neox_code.model.heavy import y\n")
    assert [sentence for rule in RULES for sentence in rule(house)] == []
