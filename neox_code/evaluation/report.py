"""One page that compares models and checkpoints by the result files of their tasks.

    write_report([Path("checkpoints"), Path("other/eval_results_1000")], Path("evaluation.html"))

The folders are searched for TASK.json of `evaluate --tasks` and eval_results_N.json of `evaluate`. The page has a table for each
task, with a row for each score and a column for each checkpoint. If samples came from a file, the checkpoint is named after their
folder.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neox_code.errors import DataError
from neox_code.evaluation.heldout_result import load_heldout
from neox_code.evaluation.score_table import CLEAN_PART, format_figure
from neox_code.files import read_json, write_text
from neox_code.pages.templates import make_page_environment
from neox_code.pages.ticks import choose_tick_values

PLOT_WIDTH, LINE_HEIGHT, LEFT = 220, 14, 16
QUANTILE = 1.96
"""Quantile of the normal distribution: a range of so many standard errors on both sides has a probability of 95%."""


@dataclass(frozen=True)
class ComparedScore:
    """A score of one model."""

    value: float
    standard_error: float | None
    count: int
    is_best: bool
    is_close: bool
    """True if its difference from the best is not significant at the 5% level, or has no error."""
    position: float
    low: float
    high: float
    """Value and 95% range, in pixels."""


@dataclass(frozen=True)
class ComparedRow:
    name: str
    scores: tuple[ComparedScore | None, ...]
    """One for each model of the task; None without a result."""
    axis: tuple[str, str]
    """Labels at both ends of the plot."""
    chance: float | None

    @property
    def counts(self) -> list[int]:
        """Different numbers of problems of the models."""
        return sorted({score.count for score in self.scores if score})


@dataclass(frozen=True)
class ComparedTask:
    name: str
    models: tuple[str, ...]
    """Names of the models that have results, without what all names begin with."""
    protocols: tuple[str, ...]
    """The different protocols of the models."""
    rows: tuple[ComparedRow, ...]

    @property
    def has_different_counts(self) -> bool:
        return any(len(row.counts) > 1 for row in self.rows)


def write_report(folders: Sequence[Path], path: Path) -> int:
    """Write the page and return the number of result files. Raise DataError if a folder is missing or there are no results."""
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise DataError(f"{missing[0]} is not a folder. Name folders with results of evaluate --tasks.")
    results = [result for folder in folders for result in read_results(folder)]
    if not results:
        names = ", ".join(map(str, folders))
        raise DataError(f"{names}: no TASK.json of evaluate --tasks, and no eval_results_N.json. Evaluate a model first.")
    tasks = make_tasks(results)
    models = list(dict.fromkeys(model for model, _ in results))
    template = make_page_environment("neox_code.evaluation").get_template("report.html")
    sizes = {"width": PLOT_WIDTH, "line_height": LINE_HEIGHT, "left": LEFT}
    write_text(path, template.render(models=models, tasks=tasks, results=results, format_figure=format_figure, **sizes))
    return len(results)


def read_results(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of the model and the result of each result file below a folder."""
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("eval_results_"):
            result = load_heldout(path)
            scores = [
                {
                    "name": row.language,
                    "value": row.bits_per_byte("model"),
                    "standard_error": row.standard_error,
                    "count": row.files,
                }
                for row in result.languages
            ]
            scores = [score | {"higher_is_better": False} for score in scores]
            yield result.checkpoint, {"name": "bits per byte", "scores": scores, "protocol": {"corpus": result.corpus}}
            continue
        found = read_json(path)
        if isinstance(found, dict) and isinstance(found.get("scores"), list) and "task" in found:
            clean = [score | {"name": f"{score['name']}, {CLEAN_PART}"} for score in found.get("clean_scores", ())]
            yield found.get("checkpoint") or str(path.parent), found | {"name": path.stem, "scores": found["scores"] + clean}


def make_tasks(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[ComparedTask]:
    """Return the tasks with a row for each score; a later file replaces an earlier one of the same model and task."""
    by_task: dict[str, dict[str, Mapping[str, Any]]] = {}
    for model, result in results:
        by_task.setdefault(result["name"], {})[model] = result
    return [make_task(name, found) for name, found in by_task.items()]


def make_task(name: str, results: Mapping[str, Mapping[str, Any]]) -> ComparedTask:
    """Return the comparison of the results of one task by their model."""
    scores = {model: {score["name"]: score for score in result["scores"]} for model, result in results.items()}
    names = dict.fromkeys(each for own in scores.values() for each in own)
    rows = tuple(compare_scores(each, [own.get(each) for own in scores.values()]) for each in names)
    protocols = dict.fromkeys(format_protocol(result.get("protocol") or {}) for result in results.values())
    return ComparedTask(name, tuple(shorten_names(list(results))), tuple(protocols), rows)


def shorten_names(models: Sequence[str]) -> list[str]:
    """Return paths without the folders that all of them begin with.

    >>> shorten_names(["runs/small/global_step5", "runs/small/global_step9", "runs/large/global_step5"])
    ['small/global_step5', 'small/global_step9', 'large/global_step5']
    """
    parts = [model.split("/") for model in models]
    common = next((place for place, each in enumerate(zip(*parts, strict=False)) if len(set(each)) > 1), 0)
    return ["/".join(each[common:]) or model for model, each in zip(models, parts, strict=True)]


def format_protocol(protocol: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in protocol.items() if key != "source" and value not in (None, [], "", False))


def compare_scores(name: str, scores: Sequence[Mapping[str, Any] | None]) -> ComparedRow:
    """Return the scores with the best, those that cannot be distinguished from it, and their places in a plot."""
    present = [score for score in scores if score is not None]
    best = (max if present[0].get("higher_is_better", True) else min)(present, key=lambda score: score["value"])
    ranges = [QUANTILE * (score["standard_error"] or 0) for score in present]
    low = min(score["value"] - extent for score, extent in zip(present, ranges, strict=True))
    high = max(score["value"] + extent for score, extent in zip(present, ranges, strict=True))
    ticks = choose_tick_values(low, high if high > low else low + 1)

    def to_pixels(value: float) -> float:
        return LEFT + round((PLOT_WIDTH - LEFT) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    def compare(score: Mapping[str, Any]) -> ComparedScore:
        value, error, other = score["value"], score["standard_error"], best["standard_error"]
        extent = QUANTILE * (error or 0)
        known = error is not None and other is not None
        is_close = not known or abs(value - best["value"]) < QUANTILE * math.hypot(error, other)
        places = (to_pixels(value), to_pixels(value - extent), to_pixels(value + extent))
        return ComparedScore(value, error, score["count"], value == best["value"], is_close, *places)

    compared = tuple(None if score is None else compare(score) for score in scores)
    chance = next((score["chance"] for score in present if score.get("chance") is not None), None)
    return ComparedRow(name, compared, (f"{ticks[0]:g}", f"{ticks[-1]:g}"), chance)
