"""Scores of tasks as a table for the console: `Console().print(make_score_table(results))`.

task       score    value  standard error  visible difference  problems  chance
humaneval  pass@1  0.0213          0.0113              0.0447       164       -
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

CAPTION = """visible difference: the smallest difference between two models that the score shows (5% level, 80% power)
chance: what can be had without the model
clean part: the problems that do not overlap with the training corpus"""


def make_score_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with a row for each score of the results of `evaluate_tasks`."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, caption=CAPTION, caption_justify="left")
    for heading in ("task", "score"):
        table.add_column(heading)
    for heading in ("value", "standard error", "visible difference", "problems", "chance"):
        table.add_column(heading, justify="right", min_width=7)
    for result in results:
        clean = [score | {"name": f"{score['name']}, clean part"} for score in result.get("clean_scores", ())]
        for score in (*result["scores"], *clean):
            figures = [format_figure(score[key]) for key in ("value", "standard_error", "smallest_difference")]
            chance = format_figure(score.get("chance"))
            table.add_row(result["name"], score["name"], *figures, f"{score['count']:,}", chance)
    return table


def format_figure(value: float | None) -> str:
    """Return four decimals for a share or bits per byte, fewer for larger numbers; a dash for no value.

    >>> format_figure(0.02134), format_figure(37.529), format_figure(None)
    ('0.0213', '37.53', '-')
    """
    return "-" if value is None else f"{value:.{4 if abs(value) < 10 else 2}f}"
