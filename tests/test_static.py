"""ruff and mypy find nothing, and private names of dependencies are used only where pyproject.toml lists them."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "deepy.py", *(path for folder in ("neox_code", "tools") for path in sorted((ROOT / folder).rglob("*.py")))]

DOCUMENTED = {"_exit", "_current_frames", "_replace"}
"""Names of the standard library that begin with an underscore and are public."""


@pytest.mark.parametrize("words", ["ruff check", "ruff format --check", "mypy"])
@pytest.mark.timeout(600)
def test_nothing_is_found_by(words):
    ended = subprocess.run([sys.executable, "-m", *words.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.strip("_") != ""


def own_names(trees: list[ast.Module]) -> set[str]:
    """Return the private names that the project's source defines: functions, classes, fields and variables."""
    names = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
                names.add(node.attr)
    return names


def private_names(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Yield the private names that a module takes from dependencies."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in own | DOCUMENTED or ast.unparse(node.value) == "super()":
                yield node.attr
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from filter(is_private, (part for name in names for part in name.split(".")))


def found_names(files: dict[str, str]) -> set[tuple[str, str]]:
    """Return (file, private name of a dependency) for source files by path."""
    trees = {name: ast.parse(text) for name, text in files.items()}
    own = own_names(list(trees.values()))
    return {(name, private) for name, tree in trees.items() for private in private_names(tree, own)}


def test_private_names_of_dependencies_are_listed_with_their_reasons():
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["neox_code"]["private_names"]
    listed = {(file, name) for file, names in rules.items() for name in names}
    found = found_names({str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES})
    assert sorted(found - listed) == [], "use a public name, or list this one with its reason in [tool.neox_code.private_names]"
    assert sorted(listed - found) == [], "remove the names that are no longer used"
    assert all(len(reason.split()) > 3 for names in rules.values() for reason in names.values())


def test_a_private_name_of_a_dependency_is_found_and_an_own_one_is_not():
    own = "class A:\n    def __init__(self):\n        self._own = 1\n    def f(self, other):\n        return other._own\n"
    used = "import torch\nfrom numpy._core import multiarray\nx = torch._foreign\n"
    assert found_names({"a.py": own, "b.py": used}) == {("b.py", "_core"), ("b.py", "_foreign")}
