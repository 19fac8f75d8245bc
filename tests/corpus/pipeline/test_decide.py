"""What is decided on the whole: languages of projects, licenses, which duplicate survives; and how little memory it takes."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from neox_code.corpus.licenses.license import AllowedLicenses
from neox_code.corpus.pipeline import drop_reasons as verdicts
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.rows.protocol import find_nearest_version
from neox_code.corpus.shards import SPLITS, Document, iter_documents, read_manifest
from neox_code.errors import DataError

POLYCODER = find_recipe("polycoder")
MIT = Path(__file__).parents[3] / "LICENSE"


def functions(name: str, language: str = "C", count: int = 20) -> str:
    form = {
        "C": "int {}(int a) {{ return a * {}; }}\n",
        "C++": "template <class T> T {}(T a) {{ return a * {}; }}\n",
        "Python": "def {}(a):\n    return a * {}\n",
    }[language]
    return "".join(form.format(f"{name}_{number}", number) for number in range(count))


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def build(source: Path, output: Path, recipe: Recipe = POLYCODER, **settings) -> dict[str, dict]:
    """The manifest's rows by `repository/path`."""
    build_corpus([str(source)], output, recipe, **({"seed": 1, "workers": 1} | settings))
    return {f"{row['repository']}/{row['path']}": row for row in read_manifest(output).to_pylist()}


def documents(folder: Path) -> dict[str, Document]:
    return {f"{document.repository}/{document.path}": document for split in SPLITS for document in iter_documents(folder, split)}


def test_a_project_without_a_named_language_has_that_of_most_bytes(tmp_path):
    """As PolyCoder has it: C++ projects take `.c` and `.h`, C projects `.h`; files of another language are dropped and counted."""
    write(
        tmp_path / "src",
        {
            "org/cpp/a.cpp": functions("a", "C++", 60),
            "org/cpp/b.c": functions("b"),
            "org/cpp/c.h": functions("c"),
            "org/cpp/d.py": functions("d", "Python"),
            "org/plain/a.c": functions("e", count=60),
            "org/plain/b.h": functions("f"),
            "org/plain/c.cpp": functions("g", "C++"),
            "org/plain/short.h": "int x;\n",
            "org/snake/a.py": functions("h", "Python", 60),
            "org/snake/b.c": functions("i"),
            "org/texts/README.md": "# Nothing\n",
            "org/types/node_modules/a.ts": functions("j", "C++", 60),
        },
    )
    rows = build(tmp_path / "src", tmp_path / "corpus", layout="organization/project")
    assert {path: (row["language"], row["verdict"]) for path, row in rows.items()} == {
        "org/cpp/a.cpp": ("C++", "kept"),
        "org/cpp/b.c": ("C++", "kept"),
        "org/cpp/c.h": ("C++", "kept"),
        "org/cpp/d.py": ("Python", "not in its project's language"),
        "org/plain/a.c": ("C", "kept"),
        "org/plain/b.h": ("C", "kept"),
        "org/plain/c.cpp": ("C++", "not in its project's language"),
        "org/plain/short.h": ("C", "under 100 tokens"),
        "org/snake/a.py": ("Python", "kept"),
        "org/snake/b.c": ("C", "not in its project's language"),
        "org/texts/README.md": (None, "no known language"),
        "org/types/node_modules/a.ts": ("TypeScript", "its project has no language"),
    }
    kept = documents(tmp_path / "corpus")
    assert {path for path, row in rows.items() if row["verdict"] == "kept"} == set(kept)
    for path, document in kept.items():
        assert document.text == (tmp_path / "src" / path).read_text()
    rows = build(tmp_path / "src", tmp_path / "chosen", layout="organization/project", languages=["C"])
    assert {path for path, row in rows.items() if row["verdict"] == "kept"} == {"org/plain/a.c", "org/plain/b.h"}
    assert rows["org/cpp/b.c"]["verdict"] == "language not chosen"


def test_the_kept_duplicate_has_most_stars_then_the_first_name_then_the_first_path(tmp_path):
    def row(repository: str, path: str, stars: int | None, text: str) -> dict:
        return {"text": text, "repository": repository, "path": path, "language": "C", "stars": stars}

    one, two, three = (functions(name) for name in ("one", "two", "three"))
    rows = [
        row("aa/small", "x.c", 3, one),
        row("zz/famous", "y.c", 900, one),
        row("mm/middle", "z.c", 50, one),
        row("mm/middle", "b/late.c", 50, two),
        row("mm/middle", "a/early.c", 50, two),
        row("bb/unknown", "p.c", None, three),
        row("ab/unknown", "q.c", None, three),
    ]
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        source = tmp_path / f"dataset{seed}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = build(source, tmp_path / f"corpus{seed}")
        kept = {path for path, row in found.items() if row["verdict"] == "kept"}
        assert kept == {"zz/famous/y.c", "mm/middle/a/early.c", "ab/unknown/q.c"}
        assert {path: row["duplicate_of"] for path, row in found.items() if row["duplicate_of"]} == {
            "aa/small/x.c": "zz/famous/y.c",
            "mm/middle/z.c": "zz/famous/y.c",
            "mm/middle/b/late.c": "mm/middle/a/early.c",
            "bb/unknown/p.c": "ab/unknown/q.c",
        }
        assert documents(tmp_path / f"corpus{seed}")["zz/famous/y.c"].stars == 900


def test_a_license_is_from_the_file_else_its_folder_else_the_list(tmp_path):
    apache = MIT.read_text()
    write(
        tmp_path / "src",
        {
            "C/org/apache/LICENSE": apache,
            "C/org/apache/third_party/LICENSE": "Permission to do nothing is hereby granted.\n",
            "C/org/apache/a.c": functions("a"),
            "C/org/apache/b.c": "// SPDX-License-Identifier: GPL-2.0-only\n" + functions("b"),
            "C/org/bare/c.c": functions("c"),
            "C/org/bare/node_modules/other/LICENSE": apache,
            "C/org/bare/d.c": "// SPDX-License-Identifier: MIT\n" + functions("d"),
        },
    )
    rows = build(tmp_path / "src", tmp_path / "corpus")
    expected = {
        "org/apache/a.c": "Apache-2.0",
        "org/apache/b.c": "GPL-2.0-only",
        "org/bare/c.c": None,
        "org/bare/d.c": "MIT",
    }
    assert {path: rows[path]["license"] for path in expected} == expected
    assert {path: document.license for path, document in documents(tmp_path / "corpus").items()} == expected
    permissive = replace(POLYCODER, licenses=AllowedLicenses(frozenset({"MIT", "Apache-2.0"})))
    rows = build(tmp_path / "src", tmp_path / "permissive", permissive)
    assert {path for path, row in rows.items() if row["verdict"] == "kept"} == {"org/apache/a.c", "org/bare/d.c"}
    assert rows["org/bare/c.c"]["verdict"] == "no license"
    listed = tmp_path / "listed.jsonl"
    listed.write_text(json.dumps({"text": functions("e"), "repository": "me/x", "path": "e.c", "language": "C", "license": "ISC"}))
    assert build(listed, tmp_path / "listed")["me/x/e.c"]["license"] == "ISC"


def test_more_reasons_than_two_bytes_can_number_are_an_error(tmp_path, monkeypatch):
    """`kept`, `no file`, `left aside` and the three of the files are six."""
    write(tmp_path / "src", {"one/a.c": functions("a"), "one/b.c": "", "one/c.c": "int x;\n", "one/README": "x"})
    monkeypatch.setattr(verdicts, "MOST_REASONS", 6)
    build(tmp_path / "src", tmp_path / "corpus", find_recipe("mixed"))
    monkeypatch.setattr(verdicts, "MOST_REASONS", 5)
    with pytest.raises(DataError, match=r"more than 5 different reasons, the last of them .* Reasons must be general"):
        build(tmp_path / "src", tmp_path / "other", find_recipe("mixed"))


MANY = """
import json, sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.pipeline.decide import decide_files
from neox_code.corpus.pipeline.decisions import load_decisions
from neox_code.corpus.pipeline.scan_results import PROJECTS, make_scan_schema
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.sources.protocol import Project
from neox_code.corpus.pipeline.work_folder import Settings, get_scan_result_path

work, parts, rows = Path(sys.argv[1]), int(sys.argv[2]), 50_000
recipe = find_recipe("polycoder")
schema = make_scan_schema([rule.key_bytes for rule in recipe.duplicates])
columns = {
    **{field.name: pa.nulls(rows, field.type) for field in schema},
    "project": np.arange(rows, dtype=np.int32) // (rows // 50),
    "path": pa.array([f"src/module{row % 50}/file{row}.c" for row in range(rows)]),
    "bytes": np.full(rows, 5_000),
    "is_first": np.ones(rows, bool),
    "language": pa.array(["C"] * rows),
    "sha256": pa.array(["0" * 64] * rows),
    "text_bytes": np.full(rows, 5_000),
}
(work / "parts").mkdir(parents=True)
for part in range(parts):
    projects = [Project(f"org{part}/project{number}", "C", stars=number % 7) for number in range(50)]
    keys = np.random.default_rng(part).bytes(16 * rows)
    keys = keys[: 16 * (rows // 10)] + keys[: 16 * (rows - rows // 10)]        # a tenth are duplicates
    columns["key0"] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(keys)])
    with pq.ParquetWriter(get_scan_result_path(work, part), schema, write_statistics=False) as writer:
        writer.write_table(pa.table(columns, schema=schema))
        writer.add_key_value_metadata({PROJECTS: json.dumps([asdict(project) for project in projects])})
decide_files(work, parts, Settings(recipe, recipe.languages, 1, None, {"train": 98.9, "valid": 0.1, "test": 1.0}))
kept = sum(shard.documents for shard in load_decisions(work).shards)
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(kept, int(status["VmHWM"].split()[0]) * 1024)        # ru_maxrss would include the process that started this one
"""


def test_deciding_takes_few_bytes_a_file(tmp_path):
    """Above a million files the peak of memory grows by a fraction of what names and hashes take, 150 bytes a file."""
    peaks = {}
    for parts in (22, 46):
        command = [sys.executable, "-c", MANY, str(tmp_path / f"work{parts}"), str(parts)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        kept, peaks[parts] = map(int, done.stdout.split())
        assert kept == parts * 45_000
    assert peaks[46] < 500e6
    assert (peaks[46] - peaks[22]) / (24 * 50_000) < 75


@dataclass(frozen=True)
class FirstLines:
    """Rows as the makers of recipes give them."""

    name = "first lines"

    def is_version_file(self, path: str) -> bool:
        return path.endswith("project.txt")

    def read_version(self, text: str) -> str | None:
        return text.strip() or None

    def find_version(self, path: str, versions: Mapping[str, str]) -> str | None:
        return find_nearest_version(path, versions)

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]:
        for line in document.text.splitlines()[:2]:
            yield {"instruction": f"{document.path} {project_version}", "output": line}


@pytest.mark.parametrize("is_divided", [False, True])
def test_the_progress_of_deciding_ends_at_its_total(tmp_path, monkeypatch, is_divided):
    totals, steps = [], []

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        totals.append(total)
        yield steps.append

    monkeypatch.setattr("neox_code.corpus.pipeline.decide.progress", progress)
    write(tmp_path / "src", {"C/org/game/a.c": functions("a")})
    for name, duplicates in (("with", POLYCODER.duplicates), ("without", ())):
        recipe = replace(POLYCODER, duplicates=duplicates, divide_large_projects=is_divided)
        build(tmp_path / "src", tmp_path / name, recipe)
        assert [sum(steps)] == totals
        totals.clear()
        steps.clear()


def test_fine_tuning_rows_have_the_order_of_the_shards(tmp_path):
    write(
        tmp_path / "src",
        {
            "C/org/game/deep/project.txt": "9\n",
            "C/org/game/project.txt": "4\n",
            "C/org/game/a.c": functions("a"),
            "C/org/game/b.c": functions("é"),
            "C/org/other/c.c": functions("c"),
        },
    )
    rows = build(tmp_path / "src", tmp_path / "corpus", replace(POLYCODER, rows=FirstLines()))
    assert rows["org/game/project.txt"]["verdict"] == "no known language"
    versions = {"org/game": "4", "org/other": None}
    for split in SPLITS:
        found = [
            json.loads(line) for path in sorted(tmp_path.glob(f"corpus/rows/{split}-*")) for line in path.read_text().splitlines()
        ]
        assert found == [
            {"instruction": f"{document.path} {versions[document.repository]}", "output": line}
            for document in iter_documents(tmp_path / "corpus", split)
            for line in document.text.splitlines()[:2]
        ]
    assert (tmp_path / "corpus" / "rows" / "train-00000.jsonl").exists()
