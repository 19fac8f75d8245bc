"""A benchmark's result as a table and its last line."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from neox_code.benchmarks.contest import Measured, ratio


def print_table(title: str, ours: Measured, peers: Sequence[Measured]) -> None:
    """Median, range and memory of each contestant, and how many times faster ours is."""
    table = Table(title=title)
    table.add_column("contestant")
    for column in ("tokens/s", "lowest", "highest", "peak GiB", "ours is faster"):
        table.add_column(column, justify="right")
    for measured in (ours, *peers):
        speeds = measured.tokens_per_second
        factor = "" if measured is ours else f"{ratio(ours, measured):.2f} x"
        table.add_row(
            measured.name,
            f"{measured.median:,.0f}",
            f"{min(speeds):,.0f}",
            f"{max(speeds):,.0f}",
            f"{measured.memory_gib:.2f}",
            factor,
        )
    Console().print(table)
