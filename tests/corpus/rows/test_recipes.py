"""Builds with the recipes that make rows."""

import json
import os
import pickle
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES

from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.rows.gdscript import read_first_feature
from neox_code.corpus.shards import SPLITS, iter_documents

MIT = next(text for name, text in LICENSES if name == "MIT")
SCRIPT = "# Moves {0}.\nstatic func move_{0}():\n\tvar a = 1\n\n\treturn a\n"
NOTICE = "/*\n * Copyright 2020 Ann.\n */\n\n"
KOTLIN = "/** Moves {0}. */\nfun move{0}(): Int {{\n    return {0}\n}}\n\n"

GODOT_FILES = {
    "me/game/LICENSE": MIT,
    "me/game/old/project.godot": "config_version=4\n",
    "me/game/old/a.gd": SCRIPT.format("a"),
    "me/game/old/new/project.godot": 'config_version=5\nconfig/features=PackedStringArray("C#", "4.2")\n',
    "me/game/old/new/src/b.gd": SCRIPT.format("b"),
    "me/game/addon/c.gd": SCRIPT.format("c"),
    "me/game/addon/copy.gd": SCRIPT.format("c"),
    "me/tool/LICENSE": MIT,
    "me/tool/d.gd": SCRIPT.format("d").replace("\n", "\r\n"),
    "me/closed/project.godot": "config_version=5\n",
    "me/closed/e.gd": SCRIPT.format("e"),
    "me/game/algebra.gd": 'DeclareGlobalFunction( "f" );\n',
    "me/tool/plain.gd": "# Declare member variables here.\nvar a = 2\n\n" + SCRIPT.format("f"),
}


def build(folder: Path, files: dict[str, str], recipe: str) -> list[dict[str, str]]:
    """Build a corpus and return its rows, which are in the order of its documents."""
    for path, text in files.items():
        (folder / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "src" / path).write_text(text, newline="")
    corpus = folder / "corpus"
    build_corpus([str(folder / "src")], corpus, find_recipe(recipe), seed=1, workers=1, layout="organization/project")
    names = [f"{split}-{path.stem[-5:]}" for split in SPLITS for path in sorted((corpus / split).glob("*.parquet"))]
    assert sorted(path.stem for path in (corpus / "rows").iterdir()) == sorted(names)
    return [json.loads(line) for name in names for line in (corpus / "rows" / f"{name}.jsonl").read_text().splitlines()]


def test_godot_makes_one_row_per_function_with_the_version_of_its_project(tmp_path: Path) -> None:
    rows = build(tmp_path, GODOT_FILES, "godot")
    expected = {"a": "3", "b": "4", "c": "3", "d": "", "f": ""}
    assert sorted(rows, key=lambda row: row["instruction"]) == [
        {"instruction": f"Moves {name}.", "output": SCRIPT.format(name).partition("\n")[2], "version": version}
        for name, version in expected.items()
    ]


def scrape_as_godot_dodo(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield godot-dodo's rows: those of the folder of the first project.godot by name, for each repository."""
    for repository in folder.glob("*/*"):
        for root, folders, files in os.walk(repository):
            folders.sort()
            if "project.godot" in files:
                version = read_first_feature(Path(root, "project.godot").read_text())
                for script in Path(root).rglob("*.gd"):
                    for piece in script.read_text().split("func ")[1:]:
                        first, *others = f"func {piece}".splitlines()
                        lines = [first, *takewhile(lambda line: re.match(r"\s", line), others)]
                        yield "".join(f"{line}\n" for line in lines), version
                break


def test_godot_faithful_makes_godot_dodos_rows(tmp_path: Path) -> None:
    files = GODOT_FILES | {
        "me/one/LICENSE": MIT,
        "me/one/project.godot": 'config_version=5\nconfig/features=PackedStringArray("4.2")\n',
        "me/one/src/g.gd": "# Declare member variables here.\n" + SCRIPT.format("g"),
        "me/one/demo/project.godot": "config_version=4\n",
        "me/one/demo/h.gd": SCRIPT.format("h").replace("\n", "\r\n"),
        "me/two/LICENSE": MIT,
        "me/two/project.godot": 'config_version=5\nconfig/features=PackedStringArray("C#", "4.2")\n',
        "me/two/i.gd": SCRIPT.format("i"),
    }
    rows = sorted((row["output"], row["version"]) for row in build(tmp_path, files, "godot-faithful"))
    expected = {"a": "3", "b": "3", "g": "4", "h": "4"}
    assert rows == [(f"func move_{name}():\n\tvar a = 1\n", version) for name, version in expected.items()]
    scraped = scrape_as_godot_dodo(tmp_path / "src")
    mit = [(output, version) for output, version in scraped if version in ("3", "4") and "move_e" not in output]
    assert rows == sorted(mit)


FILES = {
    f"me/tree{number}/Tree.kt": NOTICE + "".join(KOTLIN.format(100 * number + place) for place in range(20)) for number in range(3)
}


def test_kotlin_makes_windows_without_notices(tmp_path: Path) -> None:
    rows = build(tmp_path, FILES, "kotlin")
    texts = [document.text for split in SPLITS for document in iter_documents(tmp_path / "corpus", split)]
    assert sorted(texts) == sorted(text.removeprefix(NOTICE) for text in FILES.values())
    assert len(rows) > 9 and all(row["completion"].startswith("/** Moves") for row in rows)
    assert all(any(row["prompt"] + row["completion"] in text for text in texts) for row in rows)


def test_kotlin_functions_makes_one_row_per_function(tmp_path: Path) -> None:
    rows = build(tmp_path, FILES, "kotlin-functions")
    assert sorted(row["instruction"] for row in rows) == sorted(
        f"Moves {100 * number + place}." for number in range(3) for place in range(20)
    )
    assert all(row["output"].startswith("fun move") and row["output"].endswith("}\n") for row in rows)


def test_kotlin_faithful_ends_every_completion(tmp_path: Path) -> None:
    rows = build(tmp_path, FILES | {"me/tree9/Tree.kt": "\ufeff" + KOTLIN.format(7) * 20}, "kotlin-faithful")
    assert [row["prompt"][:8] for row in rows if row["prompt"].startswith("\ufeff")] == ["\ufeff/** Mov"]
    assert len(rows) > 9 and all(row["completion"].endswith("<|endoftext|>") for row in rows)
    assert all(not row["prompt"].startswith(NOTICE) for row in rows)


@pytest.mark.parametrize("name", ["godot", "godot-faithful", "kotlin", "kotlin-functions", "kotlin-faithful"])
def test_recipes_can_be_pickled_and_have_a_stable_repr(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert " at 0x" not in repr(recipe)


@pytest.mark.parametrize("name", ["godot", "kotlin"])
def test_a_recipe_and_its_faithful_variant_have_the_same_languages(name: str) -> None:
    assert find_recipe(name).languages == find_recipe(f"{name}-faithful").languages
