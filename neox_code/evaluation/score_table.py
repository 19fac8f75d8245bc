"""Scores of tasks as a table for the console: `Console().print(make_score_table(results))`.

humaneval                                value     error  visible    n  chance
  pass@1                                0.0213    0.0113   0.0447  164       -
clean part
  pass@1                                0.0132    0.0093   0.0370  151       -
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

CLEAN_PART = "clean part"

CAPTION = """error: standard error of the value; n: number of problems or files
visible: the smallest difference between two models that the score shows (5% level, 80% power)
chance: the value that is reached without the model
clean part: the problems that do not overlap with the training corpus"""


def make_score_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with the scores of each result of `evaluate_tasks`, below the task's name."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, caption=CAPTION, caption_justify="left")
    table.add_column("score")
    for heading in ("value", "error", "visible", "n", "chance"):
        table.add_column(heading, justify="right", min_width=6 if heading != "n" else 3)
    for result in results:
        for title, scores in ((result["name"], result["scores"]), (CLEAN_PART, result.get("clean_scores", ()))):
            if scores:
                table.add_row(title)
            for score in scores:
                figures = [format_figure(score[key]) for key in ("value", "standard_error", "smallest_difference")]
                table.add_row(f"  {score['name']}", *figures, f"{score['count']:,}", format_figure(score.get("chance")))
    return table


def format_figure(value: float | None) -> str:
    """Return four decimals for a share or bits per byte, fewer for larger numbers; a dash for no value.

    >>> format_figure(0.02134), format_figure(37.529), format_figure(None)
    ('0.0213', '37.53', '-')
    """
    return "-" if value is None else f"{value:.{4 if abs(value) < 10 else 2}f}"
