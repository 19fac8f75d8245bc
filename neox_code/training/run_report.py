"""One page that compares training runs, from their metrics.jsonl: losses, throughput, validation by language, restarts.

    write_report([Path("checkpoints/a"), Path("checkpoints/b/metrics.jsonl")], Path("runs.html"))

A file may hold several runs, each is a curve. A row has `time` and `start` (see training/trackers.py): hours of training are the
times from the start of each process to its rows, without the time between two starts. Rows of older versions have no times; their
hours are the sums of their steps.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neox_code.errors import DataError
from neox_code.files import read_json_lines, write_text
from neox_code.pages.line_chart import Curve, LineChart, Point, make_line_chart
from neox_code.pages.number_formats import format_name
from neox_code.pages.templates import make_page_environment

METRICS_FILE = "metrics.jsonl"
MOST_RUNS = 12
"""Maximum number of runs on a page: each has its own color and dash pattern."""

MOST_POINTS = 400
"""Maximum number of points of a curve: each is the mean of consecutive rows."""

NATS, BITS = "/lm_loss", "/bits_per_byte"
"""Ends of the names of a validation's losses."""

LOSS, TOKENS, SPEED = "train/lm_loss", "train/consumed_tokens", "runtime/tokens_per_sec"


@dataclass(frozen=True)
class RunMetrics:
    name: str
    rows: Sequence[Mapping[str, Any]]
    hours: Sequence[float]
    """Hours of training at each row."""

    @property
    def restarts(self) -> list[int]:
        """Indices of the first rows of later starts."""
        starts = [row.get("start") for row in self.rows]
        return [index for index in range(1, len(starts)) if starts[index] != starts[index - 1]]

    @property
    def tokens(self) -> list[float]:
        """Tokens read at each row, in millions. A row of a validation has those of the row before."""
        found, last = [], 0.0
        for row in self.rows:
            last = row.get(TOKENS, last * 1e6) / 1e6
            found.append(last)
        return found

    def collect(self, key: str, places: Sequence[float]) -> list[Point]:
        """Return (place, value) of the rows that have a finite value."""
        pairs = zip(places, self.rows, strict=True)
        return [(place, row[key]) for place, row in pairs if isinstance(row.get(key), (int, float)) and math.isfinite(row[key])]

    def find_last(self, key: str) -> float | None:
        return next((row[key] for row in reversed(self.rows) if key in row), None)


@dataclass(frozen=True)
class Drawing:
    title: str
    axis: str
    chart: LineChart
    marks: Sequence[Curve]
    """The places of restarts, per run, on the run's curve."""


def write_report(paths: Sequence[Path], output: Path) -> int:
    """Write the page; return the number of runs. Raise DataError if there are no metrics, or too many runs."""
    runs = [run for path in paths for run in read_runs(path)]
    if len(runs) > MOST_RUNS:
        raise DataError(f"{len(runs)} runs are too many for a page: at most {MOST_RUNS}. Name fewer folders.")
    runs = make_names_unique(runs)
    template = make_page_environment("neox_code.training").get_template("run_report.html")
    write_text(output, template.render(runs=runs, drawings=make_drawings(runs), rows=[summarize(run) for run in runs]))
    return len(runs)


def read_runs(path: Path) -> Iterator[RunMetrics]:
    """Yield the runs in a metrics file, or in that of a folder."""
    file = path / METRICS_FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file} does not exist. Name the folder `save` of a run, or its metrics_file.")
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in read_json_lines(file):
        if not isinstance(row, Mapping) or not isinstance(row.get("iteration"), int):
            raise DataError(f"{file} has a row without an iteration. Name a metrics file of a training.")
        found.setdefault(str(row.get("run", file.parent.name)), []).append(row)
    if not found:
        raise DataError(f"{file} has no rows yet. Wait for the first log line of the run.")
    for name, rows in found.items():
        yield RunMetrics(format_name(name), rows, count_hours(rows))


def make_names_unique(runs: Sequence[RunMetrics]) -> list[RunMetrics]:
    """Return the runs, with a number after a name that occurred before."""
    seen: dict[str, int] = {}
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
    counts = dict.fromkeys(seen, 0)
    named = []
    for run in runs:
        counts[run.name] += 1
        named.append(run if seen[run.name] == 1 else replace(run, name=f"{run.name} ({counts[run.name]})"))
    return named


def count_hours(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the hours of training at each row.

    >>> rows = [{"iteration": 1, "start": 0.0, "time": 3600.0}, {"iteration": 2, "start": 9000.0, "time": 10800.0}]
    >>> count_hours(rows), count_hours([{"iteration": 10, "runtime/iteration_time": 360.0}])
    ([1.0, 1.5], [1.0])
    """
    hours: list[float] = []
    before, start, iteration = 0.0, None, 0
    for row in rows:
        if "time" in row and "start" in row:
            if row["start"] != start:
                before, start = hours[-1] if hours else 0.0, row["start"]
            hours.append(before + max(0.0, row["time"] - row["start"]) / 3600)
        else:
            step = row.get("runtime/iteration_time", 0.0)
            hours.append((hours[-1] if hours else 0.0) + step * max(0, row["iteration"] - iteration) / 3600)
        iteration = row["iteration"]
    return hours


def make_drawings(runs: Sequence[RunMetrics]) -> list[Drawing]:
    """Return the charts of the page; a chart without a curve is left out."""
    validation = sorted({key for run in runs for row in run.rows for key in row if is_loss_of_validation(key)})
    # a language has one chart: bits per byte can be compared between vocabularies, losses cannot
    in_bits = {key.removesuffix(BITS) for key in validation if key.endswith(BITS)}
    validation = [key for key in validation if key.endswith(BITS) or key.count("/") == 1 or key.removesuffix(NATS) not in in_bits]
    wanted = [
        ("Training loss over tokens", LOSS, "millions of tokens", "tokens"),
        ("Training loss over hours", LOSS, "hours of training", "hours"),
        ("Throughput, tokens/s", SPEED, "hours of training", "hours"),
        *((format_validation(key), key, "millions of tokens", "tokens") for key in validation),
    ]
    drawings = []
    for title, key, axis, places in wanted:
        series = {run.name: thin(run.collect(key, getattr(run, places))) for run in runs}
        if any(series.values()):
            # the marks are scaled with the curves, as curves of their own
            marks = {f"restart of {run.name}": find_marks(run, series[run.name], getattr(run, places)) for run in runs}
            chart = make_line_chart({**series, **marks})
            curves = {curve.name: curve for curve in chart.curves}
            lines = tuple(curves[name] for name in series if name in curves)
            drawings.append(Drawing(title, axis, replace(chart, curves=lines), [curves[name] for name in marks if name in curves]))
    return drawings


def find_marks(run: RunMetrics, curve: Sequence[Point], places: Sequence[float]) -> list[Point]:
    """Return the points of a curve that are nearest to the restarts of its run."""
    return [min(curve, key=lambda point: abs(point[0] - places[index])) for index in run.restarts] if curve else []


def thin(points: Sequence[Point]) -> list[Point]:
    """Return at most MOST_POINTS points, each the mean of as many consecutive points.

    >>> len(thin([(float(x), 1.0) for x in range(1000)]))
    334
    """
    size = -(-len(points) // MOST_POINTS)
    groups = [points[place : place + size] for place in range(0, len(points), size)] if points else []
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def is_loss_of_validation(key: str) -> bool:
    return key.startswith("validation/") and key.endswith((NATS, BITS))


def format_validation(key: str) -> str:
    """Return the title of a chart of validation.

    >>> format_validation("validation/lm_loss"), format_validation("validation/Python/bits_per_byte")
    ('Validation loss', 'Validation bits per byte: Python')
    """
    *places, kind = key.split("/")[1:]
    return f"Validation {'loss' if kind == 'lm_loss' else 'bits per byte'}{': ' if places else ''}{'/'.join(places)}"


def summarize(run: RunMetrics) -> dict[str, str]:
    """Return the figures of a run for the table, by the column's name."""
    speeds = sorted(row[SPEED] for row in run.rows if SPEED in row)
    shares = sorted(row[key] for key in ("runtime/model_flops_utilization",) for row in run.rows if key in row)
    figures = {
        "steps": (run.rows[-1]["iteration"], "{:,}"),
        "tokens, millions": (run.tokens[-1], "{:,.1f}"),
        "hours": (run.hours[-1], "{:.2f}"),
        "starts": (len(run.restarts) + 1, "{}"),
        "last loss": (run.find_last(LOSS), "{:.4f}"),
        "last validation loss": (run.find_last("validation/lm_loss"), "{:.4f}"),
        "tokens/s, median": (speeds[len(speeds) // 2] if speeds else None, "{:,.0f}"),
        "utilization, median": (shares[len(shares) // 2] if shares else None, "{:.1%}"),
        "memory, GiB": (run.find_last("runtime/memory_gib"), "{:.2f}"),
        "skipped steps": (run.find_last("train/skipped_steps"), "{:,}"),
    }
    return {name: "-" if value is None else form.format(value) for name, (value, form) in figures.items()}
