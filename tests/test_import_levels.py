"""Which way imports run between packages: read from the source with ast, function bodies included.

Import levels, entry points, torch-free packages and optional dependencies are listed in pyproject.toml under [tool.neox_code].
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


@dataclass(frozen=True)
class Import:
    """One imported name, in full."""

    name: str
    line: int
    is_deferred: bool
    """Inside a function."""

    is_relative: bool = False


@dataclass
class Project:
    """A project's source, and the rules in its pyproject.toml."""

    root: Path
    rules: dict = field(init=False)
    imports: dict[Path, list[Import]] = field(init=False)

    def __post_init__(self) -> None:
        self.rules = tomllib.loads((self.root / "pyproject.toml").read_text())["tool"]["neox_code"]
        files = [*(self.root / PACKAGE).rglob("*.py"), *(self.root / "tools").rglob("*.py"), self.root / "deepy.py"]
        self.imports = {
            file.relative_to(self.root): list(imports_of(ast.parse(file.read_text()))) for file in files if file.exists()
        }

    def level(self, package: str, parent: str | None = None) -> int:
        """Return the import level of a package, or of an inner package or module of `parent`; -1 if none is listed."""
        levels = self.rules["levels"] if parent is None else self.rules["inner_levels"][parent]
        return next((number for number, level in enumerate(levels) if package in level), -1)


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
    """Return True if an imported name is a package or something in it."""
    return name == package or name.startswith(f"{package}.")


def place_of(file: Path) -> list[str]:
    """Return the names from the package down to the file, without suffix: ["corpus", "sources", "git"]; [] outside the package."""
    return [] if file.parts[0] != PACKAGE else [*file.parts[1:-1], *([] if file.stem == "__init__" else [file.stem])]


# ---- the rules, each a list of sentences


def imports_upward(project: Project) -> Iterator[str]:
    for file, imports in project.imports.items():
        own = place_of(file)
        for found in imports:
            first, *other = found.name.split(".")
            if not own or first != PACKAGE or not other:
                continue
            parent = None
            if own[0] == other[0]:
                if own[0] not in project.rules.get("inner_levels", {}) or len(own) < 2 or len(other) < 2:
                    continue
                parent, own_unit, other_unit = own[0], own[1], other[1]
            else:
                own_unit, other_unit = own[0], other[0]
            own_level, other_level = project.level(own_unit, parent), project.level(other_unit, parent)
            if own_unit != other_unit and other_level >= own_level:
                yield (
                    f"{file}:{found.line} imports {found.name}: {other_unit} is on import level {other_level}, "
                    f"{own_unit} on {own_level}, and imports go to lower levels only. "
                    "Move what both need to a lower level, or pass it in."
                )


def packages_without_a_level(project: Project) -> Iterator[str]:
    units = {(None, place[0]) for file in project.imports if (place := place_of(file))}
    inner = project.rules.get("inner_levels", {})
    units |= {(place[0], place[1]) for file in project.imports if len(place := place_of(file)) > 1 and place[0] in inner}
    for parent, unit in sorted(units, key=str):
        if project.level(unit, parent) < 0:
            path = "/".join(part for part in (PACKAGE, parent, unit) if part)
            yield f"{path} has no import level. Enter it in pyproject.toml, above all that it imports."


def imports_out_of_place(project: Project) -> Iterator[str]:
    for file, imports in project.imports.items():
        for found in imports:
            if found.is_relative:
                yield f"{file}:{found.line} imports relatively. Write the name in full: from {PACKAGE}.PACKAGE.MODULE import NAME."
            if not found.is_deferred:
                continue
            optional = [name for name in project.rules["optional"] if is_below(found.name, name)]
            if not any(is_entry_point(file, project.rules["entry_points_of"].get(name, [])) for name in optional):
                yield (
                    f"{file}:{found.line} imports {found.name} inside a function. Put it at the top of the module; "
                    "only an optional dependency may wait, at its entry point."
                )


def packages_that_are_not_empty(project: Project) -> Iterator[str]:
    for file in project.imports:
        if file.name == "__init__.py" and file != Path(PACKAGE, "__init__.py") and (project.root / file).read_text():
            yield f"{file} is not empty. Import names from the modules that define them."


def is_entry_point(file: Path, places: list[str]) -> bool:
    inside = file.relative_to(PACKAGE).as_posix() if file.parts[0] == PACKAGE else ""
    return any(inside.startswith(place) if place.endswith("/") else inside == place for place in places)


def imports_beside_the_entry_point(project: Project) -> Iterator[str]:
    for dependency, places in project.rules["entry_points_of"].items():
        for file, imports in project.imports.items():
            for found in imports:
                if is_below(found.name, dependency) and not is_entry_point(file, places):
                    entry_point = " or ".join(places)
                    yield f"{file}:{found.line} imports {found.name}, whose entry point is {entry_point}. Call a function there."


def torch_in_torch_free_packages(project: Project) -> Iterator[str]:
    for file in project.imports:
        if place_of(file)[:1] and place_of(file)[0] in project.rules["torch_free"]:
            chain = way_to_torch(project, file, set())
            if chain:
                way = " -> ".join(chain)
                yield f"{file} brings in torch: {way}. Take plain values, or move the function to a package with torch."


def way_to_torch(project: Project, file: Path, seen: set[Path]) -> list[str]:
    """The imports that lead from a file to torch, through modules of our own; empty where there is no way."""
    seen.add(file)
    for found in project.imports[file]:
        if any(is_below(found.name, heavy) for heavy in BRINGS_TORCH):
            return [f"{file}:{found.line}", found.name]
        module = module_file(project, found.name)
        if module is not None and module not in seen and (chain := way_to_torch(project, module, seen)):
            return [f"{file}:{found.line}", *chain]
    return []


def module_file(project: Project, name: str) -> Path | None:
    """The file of a module of our own, or of the module in which a name is."""
    parts = name.split(".")
    candidates = (Path(*parts[:-1], f"{parts[-1]}.py"), Path(*parts[:-2], f"{parts[-2]}.py") if len(parts) > 1 else None)
    return next((file for file in candidates if file in project.imports), None)


def imports_of_tools(project: Project) -> Iterator[str]:
    for file, imports in project.imports.items():
        for found in imports:
            if file.parts[0] == PACKAGE and found.name.partition(".")[0] in ("tools", "deepy", "tests"):
                yield f"{file}:{found.line} imports {found.name}. tools/ is around the package: move the function into {PACKAGE}/."


RULES = (
    imports_upward,
    packages_without_a_level,
    imports_out_of_place,
    packages_that_are_not_empty,
    imports_beside_the_entry_point,
    torch_in_torch_free_packages,
    imports_of_tools,
)


@functools.cache
def this_project() -> Project:
    return Project(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_has_no(rule):
    assert list(rule(this_project())) == []


def test_the_whole_package_is_read():
    read = this_project().imports
    assert {Path("deepy.py"), Path(PACKAGE, "errors.py"), Path(PACKAGE, "config", "neox.py")} <= read.keys()
    assert {found.name for found in read[Path("deepy.py")]} == {
        "sys",
        "neox_code.commands.__main__.start",
        "neox_code.installation.report_missing_set_up",
    }


PYPROJECT = """
[tool.neox_code]
levels = [["errors"], ["logs", "files"], ["config"], ["model", "data"], ["commands"]]
optional = ["wandb"]
torch_free = ["errors", "config"]
[tool.neox_code.entry_points_of]
"megatron.core" = ["model/"]
wandb = ["data/trackers.py"]
[tool.neox_code.inner_levels]
data = [["files"], ["loaders", "trackers", "a", "b", "other"]]
"""

PLANTED = [
    (imports_upward, "neox_code/config/a.py", "from neox_code.model.gpt import x", "model is on import level 3, config on 2"),
    (imports_upward, "neox_code/model/a.py", "import neox_code.data.b", "data is on import level 3, model on 3"),
    (imports_upward, "neox_code/model/a.py", "from neox_code import data", "data is on import level 3, model on 3"),
    (imports_upward, "neox_code/errors.py", "from neox_code.logs import x", "logs is on import level 1, errors on 0"),
    (imports_upward, "neox_code/config/a.py", "if TYPE_CHECKING:\n    import neox_code.model.gpt", "neox_code/config/a.py:2"),
    (imports_upward, "neox_code/config/a.py", "def f():\n    import neox_code.model.gpt", "neox_code/config/a.py:2"),
    (imports_upward, "neox_code/data/files.py", "import neox_code.data.loaders", "loaders is on import level 1, files on 0"),
    (packages_without_a_level, "neox_code/data/samples.py", "", "neox_code/data/samples has no import level."),
    (packages_without_a_level, "neox_code/attic/a.py", "", "neox_code/attic has no import level."),
    (packages_without_a_level, "neox_code/cellar.py", "", "neox_code/cellar has no import level."),
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
    (imports_beside_the_entry_point, "neox_code/data/a.py", "from megatron import core", "whose entry point is model/."),
    (imports_beside_the_entry_point, "neox_code/data/a.py", "def f():\n    import megatron.core.x", "whose entry point is model/."),
    (imports_beside_the_entry_point, "tools/a.py", "import wandb", "whose entry point is data/trackers.py."),
    (torch_in_torch_free_packages, "neox_code/config/a.py", "import torch.nn as nn", "neox_code/config/a.py:1 -> torch.nn."),
    (torch_in_torch_free_packages, "neox_code/config/a.py", "from neox_code.model.heavy import f", "heavy.py:1 -> torch."),
    (imports_of_tools, "neox_code/model/a.py", "from tools.b import c", "tools/ is around the package"),
]


@pytest.fixture
def planted(tmp_path):
    """A small project to which one file can be added."""
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

    def plant(name: str, text: str) -> Project:
        for file, content in {**files, name: text}.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(content)
        return Project(tmp_path)

    return plant


@pytest.mark.parametrize(("rule", "file", "text", "sentence"), PLANTED)
def test_a_planted_violation_is_found(planted, rule, file, text, sentence):
    found = list(rule(planted(file, text)))
    assert len(found) == 1
    assert sentence in found[0]


def test_a_project_that_follows_the_rules_has_no_violations(planted):
    project = planted("neox_code/model/gpt.py", "from neox_code.errors import x\nfrom neox_code.model.heavy import y\n")
    assert [sentence for rule in RULES for sentence in rule(project)] == []
