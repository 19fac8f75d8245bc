"""Recipes as whole: what travels to other processes, what a user writes, what strict leaves."""

import os
import pickle
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from neox_code.corpus import recipes
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.size import MaxBytes, NotEmpty
from neox_code.corpus.filters.tokens import MinTokens
from neox_code.corpus.languages.rules import ProjectLanguage
from neox_code.corpus.recipes.registry import find_recipe, list_recipe_names
from neox_code.errors import DataError

README = Path(recipes.__path__[0]) / "README.md"
NAMES = ["polycoder", "code-clippy", "strict"]


def test_polycoders_thresholds_are_those_of_its_paper():
    recipe = find_recipe("polycoder")
    assert recipe.before_reading == (NotEmpty(), MaxBytes(1024 * 1024))
    assert recipe.after_reading == (MinTokens(100),)
    assert recipe.language_rule == ProjectLanguage(recipe.languages) and len(recipe.languages) == 12
    assert recipe.decoding == "utf-8 ignoring errors" and recipe.licenses is None and not recipe.repositories


def test_code_clippy_takes_repositories_above_its_limits():
    wanted = {"stars": 11, "commits": 3, "license": "GPL-3.0", "is_fork": False, "size_kib": 70_707}
    verdicts = lambda row: [rule.keep(row) for rule in find_recipe("code-clippy").repositories]  # noqa: E731
    assert verdicts(wanted) == [True] * 5
    for change in ({"stars": 10}, {"commits": 2}, {"license": None}, {"is_fork": True}, {"size_kib": 70_708}):
        assert verdicts(wanted | change).count(True) == 4


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_the_same_in_every_process(name):
    recipe = find_recipe(name)
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    code = f"from neox_code.corpus.recipes.registry import find_recipe; print(repr(find_recipe({name!r})))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{recipe!r}\n"}


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_has_a_name_of_its_own(name):
    recipe = find_recipe(name)
    rules = (*recipe.before_reading, *recipe.after_reading, *recipe.repositories)
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(is_dataclass(rule) and rule.__dataclass_params__.frozen for rule in rules)
    assert all(field.name != "name" for rule in rules for field in fields(rule))


def test_the_readme_names_every_recipe():
    text = README.read_text()
    assert [name for name in list_recipe_names() if f"`{name}`" not in text] == []


def test_the_readmes_recipe_of_ten_lines_is_loaded_and_filters(tmp_path):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line and not line.startswith(("from ", "import "))]) <= 10
    path = tmp_path / "mine.py"
    path.write_text(code)
    recipe = find_recipe(str(path))
    reasons = [rule.keep(Candidate("tests/a.py", "Python", 10, "x = 1\n")) for rule in recipe.after_reading]
    assert "a test" in reasons


NOTICE = "# Copyright 2020 Ann Lee <ann@lab.org>\n# Released under the MIT License.\n\n"
CODE = "".join(
    f"def area_{name}(width, height):\n    return width * height + {number}\n\n" for number, name in enumerate("abcdefgh")
)


def filtered(text, path="src/area.py"):
    """The text that strict keeps, with the edits made, or the reason why it keeps none."""
    file = Candidate(path, "Python", len(text.encode()), text)
    edits = []
    for rule in (*find_recipe("strict").before_reading, *find_recipe("strict").after_reading):
        if hasattr(rule, "edit"):
            edited = rule.edit(file)
            edits += [rule.name] if edited != file.text else []
            file.text = edited
        elif (verdict := rule.keep(file)) is not True:
            return verdict, edits
    return file.text, edits


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("language_rule=None, before_reading=(), after_reading=()", "language_rule is None"),
        ("language_rule=FileLanguage(), before_reading=None, after_reading=()", "before_reading is None"),
        ("language_rule=FileLanguage(), before_reading=(NotEmpty,), after_reading=()", "give an object, not its class"),
        (
            "language_rule=FileLanguage(), before_reading=(), after_reading=(3,)",
            r"after_reading holds 3, which has no keep\(file\)",
        ),
    ],
)
def test_a_recipe_with_fields_of_other_types_is_refused(tmp_path, fields, problem):
    (tmp_path / "mine.py").write_text(
        "from neox_code.corpus.filters.size import NotEmpty\n"
        "from neox_code.corpus.languages.rules import FileLanguage\n"
        "from neox_code.corpus.recipes.recipe import Recipe\n"
        f'RECIPE = Recipe("mine", languages=("C",), {fields})\n'
    )
    with pytest.raises(DataError, match=problem):
        find_recipe(tmp_path / "mine.py")


def test_strict_leaves_code_alone():
    assert filtered(CODE) == (CODE, [])


def test_strict_removes_what_is_not_code():
    secret = "sk_live_" + "a1B2c3D4e5F6" * 2
    text, edits = filtered(f"{NOTICE}# Ask ann@lab.org.\nKEY = '{secret}'\nBLOB = '{'QUJDRA' * 40}'\n{CODE}")
    assert text == f"# Ask <EMAIL>.\nKEY = '<KEY>'\nBLOB = ''\n{CODE}"
    assert edits == ["copyright header removed", "long literals removed", "secrets masked", "e-mail addresses masked"]


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        (CODE, "node_modules/area.py", "vendored"),
        ("# automatically generated\n" + CODE, "a.py", "generated"),
        (CODE + "x" * 1_001, "a.py", "line over 1,000 characters"),
        ("x = " + " + ".join("1" * 200) + "\n", "a.py", "mean line over 100 characters"),
        ("{1: 2}\n" * 300, "a.py", "under 25% alphabetic"),
        ("answer = 42\n", "a.py", "under 100 tokens"),
        (NOTICE * 9 + "answer = 42\n", "a.py", "under 100 tokens"),
        ("", "a.py", "empty"),
        (
            CODE + "# Check if in given list of numbers, are any two numbers closer to each other than given threshold.\n",
            "a.py",
            None,
        ),
    ],
)
def test_strict_drops_under_the_reason(text, path, reason):
    assert filtered(text, path)[0] == (reason or "overlaps with HumanEval")
