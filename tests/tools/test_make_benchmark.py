"""tools/make_benchmark.py on a corpus of three repositories, one of them in both splits."""

import dataclasses
import json
from pathlib import Path

import make_benchmark
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_code import real_file
from small_corpus import document, write_documents

from neox_code.corpus.shards import KEPT, MANIFEST_FILE, MANIFEST_SCHEMA, CorpusSummary, Count, write_summary
from neox_code.errors import DataError
from neox_code.evaluation.infilling_problems import read_problems

UTIL, STYLE = (real_file(f"pygments/{name}.py").read_text() for name in ("util", "style"))


def write_corpus(folder: Path) -> None:
    """Write a corpus whose project `both` has a file in the training split; one held-out file contains a training file's text."""
    folder.mkdir()
    documents = [
        document(UTIL, "Python", "util.py", "train"),
        document("def held(a):\n    return a + len('held out')\n", "Python", "held.py", "test"),
        document(f"{UTIL}\nx = 1\n", "Python", "copy.py", "test"),
        dataclasses.replace(document(STYLE, "Python", "style.py", "test"), repository="both"),
    ]
    rows = [(each.repository, each.path, each.split) for each in documents] + [("both", "other.py", "train")]
    columns = dict.fromkeys(MANIFEST_SCHEMA.names) | {"bytes": 1, "verdict": KEPT}
    table = [columns | dict(zip(("repository", "path", "split"), row, strict=True)) for row in rows]
    pq.write_table(pa.Table.from_pylist(table, MANIFEST_SCHEMA), folder / MANIFEST_FILE)
    counts = tuple(Count("Python", KEPT, split, 9, 99, 9, 0) for split in ("train", "test"))
    write_summary(folder, CorpusSummary("none", {}, counts, write_documents(folder, documents)))


def test_problems_of_held_out_repositories_have_their_overlap_with_the_training_split(tmp_path: Path, capsys):
    corpus, output = tmp_path / "corpus", tmp_path / "out"
    write_corpus(corpus)
    assert make_benchmark.main([str(corpus), "--output", str(output), "--count", "8"]) == 0
    summary = json.loads((output / "benchmark.json").read_text())
    assert summary["repositories"] == ["project-of-test"] and summary["repositories_in_training"] == ["both"]
    rows = [
        json.loads(line) for name in make_benchmark.FILES for line in (output / f"{name}.jsonl").read_text().split("\n") if line
    ]
    assert {(row["source"]["path"], row["overlap"]["is_contaminated"]) for row in rows} == {("held.py", False), ("copy.py", True)}
    assert len(rows) == sum(summary["problems"].values())
    for name, kinds in make_benchmark.FILES.items():
        problems = read_problems(output / f"{name}.jsonl")
        assert {problem.fields["source"]["kind"] for problem in problems} <= set(kinds)
    files = {name: (output / f"{name}.jsonl").read_bytes() for name in make_benchmark.FILES}
    make_benchmark.main([str(corpus), "--output", str(output), "--count", "8"])
    assert files == {name: (output / f"{name}.jsonl").read_bytes() for name in make_benchmark.FILES}


def test_a_folder_without_code_is_refused(tmp_path: Path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.sh").write_text("echo 1\n")
    with pytest.raises(DataError, match="no problem can be made from"):
        make_benchmark.main([str(tmp_path / "code"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
