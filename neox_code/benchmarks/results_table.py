"""Print a benchmark's results as a table."""

import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from neox_code.benchmarks.contest import Measured, compute_cpu_ratio, compute_ratio


def print_table(title: str, ours: Measured, peers: Sequence[Measured], unit: str = "tokens", decimals: int = 0) -> None:
    """Print each contestant's median speed, our speed-up and the peak memory.

    Add the speed per second of processor time if it was measured, else the lowest and the highest speed.
    """
    with_cpu = bool(ours.per_cpu_second)
    table = Table(title=title)
    table.add_column("contestant", no_wrap=True)
    others = (f"{unit}/CPU s", "ours by CPU") if with_cpu else ("lowest", "highest")
    for column in (f"{unit}/s", "ours is faster", *others, "peak GiB"):
        table.add_column(column, justify="right")

    def format_cells(measured: Measured) -> list[str]:
        is_ours = measured is ours
        speeds = [measured.median, min(measured.per_second), max(measured.per_second)]
        factors = ["" if is_ours else f"{compute_ratio(ours, measured):.2f} x"]
        if with_cpu:
            speeds[1:] = [statistics.median(measured.per_cpu_second)]
            factors.append("" if is_ours else f"{compute_cpu_ratio(ours, measured):.2f} x")
        formatted = [f"{speed:,.{decimals}f}" for speed in speeds]
        return [formatted[0], factors[0], *formatted[1:], *factors[1:], f"{measured.memory_gib:.2f}"]

    for measured in (ours, *peers):
        table.add_row(measured.name, *format_cells(measured))
    Console().print(table)
