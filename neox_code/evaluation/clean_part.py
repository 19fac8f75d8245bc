"""Find which problems of a task overlap with the training corpus, and compute the scores on the other problems.

found |= score_clean_part("data/corpus", task, problems, samples, outcomes, Path("results/humaneval_overlap.jsonl"))
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neox_code.config.neox import NeoXConfig
from neox_code.corpus.overlap.contamination import measure_contamination
from neox_code.corpus.shards import is_corpus
from neox_code.evaluation.scores import TaskScore
from neox_code.evaluation.task import Outcome, Problems, Task, TaskProblem, TaskSample
from neox_code.files import write_json_lines

MOST_CHARACTERS = 100_000
"""Longer texts of a problem, such as lists of generated inputs, are not searched for."""

MeasureProblems = Callable[[Problems], Sequence[TaskScore]]
"""Scores that need the model and not its samples."""


def measure_nothing(problems: Problems) -> Sequence[TaskScore]:
    return ()


def find_default_corpus(config: NeoXConfig | None) -> str | None:
    """Return `heldout_path` if it is a corpus, else None."""
    path = config.data.heldout_path if config else None
    return path if path and is_corpus(path) else None


def score_clean_part(
    corpus: str,
    task: Task,
    problems: Problems,
    samples: Sequence[TaskSample],
    outcomes: Sequence[Outcome],
    path: Path,
    measure: MeasureProblems = measure_nothing,
) -> dict[str, Any]:
    """Write a row for each problem with its overlap; return `contamination` and `clean_scores` for the result file.

    Raise DataError if the folder is not a corpus.
    """
    found = measure_contamination(corpus, {name: list_texts(problem) for name, problem in problems.items()})
    rows = (
        {"task_id": name, "contaminated": each.is_contaminated, "share": each.share, **asdict(each)} for name, each in found.items()
    )
    write_json_lines(path, rows)
    clean = {name for name, each in found.items() if not each.is_contaminated}
    pairs = [(sample, outcome) for sample, outcome in zip(samples, outcomes, strict=True) if sample.problem_id in clean]
    remaining = {name: problem for name, problem in problems.items() if name in clean}
    scores: list[TaskScore] = []
    if pairs:
        scores = [*measure(remaining), *task.summarize(remaining, [each for each, _ in pairs], [each for _, each in pairs])]
    return {
        "contamination": {"corpus": corpus, "problems": len(found), "contaminated": len(found) - len(clean), "rows": path.name},
        "clean_scores": [score.to_json() for score in scores],
    }


def list_texts(problem: TaskProblem) -> list[str]:
    """Return the texts of a problem: its prompt, and each text and list of texts in its row."""
    texts = [problem.prompt, problem.suffix or ""]
    for value in problem.fields.values():
        lines = value if isinstance(value, list) else [value]
        if all(isinstance(line, str) for line in lines):
            texts.append("\n".join(lines))
    return [text for text in dict.fromkeys(texts) if text.strip() and len(text) <= MOST_CHARACTERS]
