"""Scores on the problems that the training corpus does not have."""

from pathlib import Path

from real_code import real_file
from seen_files import make_kept_row, write_seen_files

from neox_code.evaluation.clean_part import score_clean_part
from neox_code.evaluation.scores import mean_score
from neox_code.evaluation.task import Outcome, Task, TaskProblem, TaskSample
from neox_code.files import read_json_lines


def test_a_memorized_problem_counts_in_the_score_but_not_in_that_of_the_clean_part(tmp_path: Path) -> None:
    text = real_file("pygments/regexopt.py").read_text()
    write_seen_files(
        tmp_path / "corpus", [make_kept_row("regexopt.py", text, license="BSD-2-Clause", repository="pygments/pygments")]
    )
    seen = TaskProblem("seen", "def make_charset(letters):", fields={"solution": text[1000:1400], "tests": ["assert x", "y"]})
    unseen = TaskProblem("unseen", "def f(a):\n", fields={"solution": "    return a.zebra(quokka) ** a.axolotl\n" * 3, "number": 3})
    problems = {problem.id: problem for problem in (seen, unseen)}
    samples = [TaskSample("seen", 0, "x"), TaskSample("unseen", 0, "y")]
    outcomes = [Outcome(True, "passed"), Outcome(False, "failed: AssertionError")]
    task = Task("made", lambda inputs: [], lambda problems, samples, settings: iter(()))
    paths = str(tmp_path / "corpus"), tmp_path / "overlap.jsonl"
    found = score_clean_part(
        paths[0], task, problems, samples, outcomes, paths[1], lambda chosen: [mean_score("/".join(chosen), [7.0])]
    )
    assert task.summarize(problems, samples, outcomes)[0].value == 0.5
    assert [(score["name"], score["value"], score["count"]) for score in found["clean_scores"]] == [
        ("unseen", 7.0, 1),  # measured on the clean problems alone, and before the samples' scores
        ("pass@1", 0.0, 1),
    ]
    first, second = read_json_lines(tmp_path / "overlap.jsonl")
    assert (first["task_id"], first["contaminated"], first["overlap"]["license"]) == ("seen", True, "BSD-2-Clause")
    assert (second["contaminated"], second["shared_runs"], second["overlap"]) == (False, 0, None)
