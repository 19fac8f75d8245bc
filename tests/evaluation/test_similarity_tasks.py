"""Tasks of similarity: rows in CodeXGLUE's form from Python files, chunks of Kotlin, the parse rate of recorded samples."""

import ast
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from neox_code.config.evaluation import EvaluationConfig
from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.runner import evaluate_tasks
from neox_code.evaluation.similarity import expand_literals
from neox_code.evaluation.task import TaskInputs
from neox_code.evaluation.tasks.similarity_tasks import load_chunks, load_methods, normalize_body, read_method

METHOD = '''class Box:
    def open(self, key, times=3):
        """Open the box."""
        if key == "a b":  # the master key
            for _ in range(12):
                self.turn(key, 'secret', 1)

        return self.lid

    def close(self):
        self.lid = None
'''


def evaluate(task: str, samples: Path, output: Path, **keys: Any) -> dict[str, float]:
    section = EvaluationConfig(eval_tasks=(task,), eval_samples=str(samples), eval_results_prefix=str(output), **keys)
    (result,) = evaluate_tasks(None, section)
    return {score["name"]: score["value"] for score in result["scores"]}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_python_files_become_rows_of_method_generation(tmp_path: Path) -> None:
    (tmp_path / "box.py").write_text(METHOD)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "literals.json").write_text(json.dumps({"str": ["aU+0020b"], "num": ["1"]}))
    (problem,) = load_methods(TaskInputs(problem_file=tmp_path))
    body = (
        'if key == "<STR_LIT:aU+0020b>": <EOL> <INDENT> for _ in range(<NUM_LIT>): <EOL> <INDENT> '
        "self.turn(key, '<STR_LIT>', <NUM_LIT:1>) <EOL> <DEDENT> <DEDENT> return self.lid"
    )
    assert problem.fields["reference"] == body
    assert problem.prompt == 'def open(self, key, times=3):\n    """Open the box."""\n    '
    completion = (
        METHOD.partition('box."""\n')[2].partition("    def close")[0].replace("\n    ", "\n").strip() + "\n\ndef other():\n"
    )
    assert read_method(problem, completion) == body
    assert read_method(problem, body) == body
    assert expand_literals(body) == "if key == \"aU+0020b\": for _ in range(0): self.turn(key, '', 1) return self.lid"
    output = tmp_path / "out"
    samples = write_rows(tmp_path / "samples.jsonl", [{"task_id": problem.id, "completion": completion}])
    scores = evaluate("codexglue_method_generation", samples, output, eval_problem_file=str(tmp_path))
    assert scores == {"BLEU": pytest.approx(100), "edit similarity (rapidfuzz)": 100}


@pytest.mark.parametrize("body", ["return (1", "    x\n  y", "'''", "\0", "x = $ 1", "", "\\"])
def test_a_body_that_python_cannot_read_is_one_line(body: str) -> None:
    assert "\n" not in normalize_body(body)


def test_chunks_of_kotlin_are_scored_without_their_prompt(tmp_path: Path) -> None:
    lines = [f"    println({number})  // a line of the file\n" for number in range(200)]
    folder = tmp_path / "project" / "src"
    folder.mkdir(parents=True)
    (folder / "Main.kt").write_text("fun main() {\n" + "".join(lines) + "}\n")
    (folder / "notes.txt").write_text("no code\n" * 500)
    keys = {"eval_problem_file": str(tmp_path / "project")}
    problems = load_chunks(TaskInputs(problem_file=tmp_path / "project"))
    assert problems == load_chunks(TaskInputs(problem_file=tmp_path / "project"))
    assert len({problem.id for problem in problems}) == len(problems) > 10
    assert all(len(problem.prompt) <= 400 for problem in problems)
    same = [{"task_id": each.id, "completion": each.fields["reference"] + "\nfun more() {}\n"} for each in problems]
    empty = [{"task_id": each.id, "completion": ""} for each in problems]
    best = evaluate("kotlin_completion", write_rows(tmp_path / "same.jsonl", same), tmp_path / "same", **keys)
    worst = evaluate("kotlin_completion", write_rows(tmp_path / "empty.jsonl", empty), tmp_path / "empty", **keys)
    assert best == {"BLEU": pytest.approx(100), "edit similarity (rapidfuzz)": 100}
    assert worst == {"BLEU": 0, "edit similarity (rapidfuzz)": 0}


def parses_in_python(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


def test_parse_rate_of_recorded_samples_is_that_of_their_recorded_errors(test_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_python")
    with gzip.open(test_data / "gpt-code-clippy-samples" / "gpt-neo-125M-apps.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][::8]
    samples = write_rows(tmp_path / "samples.jsonl", rows)
    scores = evaluate("humaneval_similarity", samples, tmp_path / "out", eval_data=str(test_data))
    results = [json.loads(line) for line in (tmp_path / "out" / "humaneval_similarity_results.jsonl").read_text().splitlines()]
    missed = [row["task_id"] for row in results if parses_in_python(row["completion"]) > row["values"]["parses"]]
    accepted = [row for row in results if parses_in_python(row["completion"].expandtabs(4)) < row["values"]["parses"]]
    assert missed == [] and len(accepted) < 0.2 * len(rows)  # the grammar accepts uneven indentation and names such as `print`
    assert 0 < scores["BLEU"] < 20 < scores["edit similarity (rapidfuzz)"] < 60


def test_missing_data_names_the_file_and_its_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"codexglue-method-generation/test.jsonl does not exist.*github.com/microsoft/CodeXGLUE"):
        load_methods(TaskInputs(data=tmp_path))
    with pytest.raises(ConfigError, match="kotlin"):
        load_chunks(TaskInputs())
    (tmp_path / "kotlin").mkdir()
    with pytest.raises(DataError, match=r"kotlin has no \.kt files"):
        load_chunks(TaskInputs(data=tmp_path))
