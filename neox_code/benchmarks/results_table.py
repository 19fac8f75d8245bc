"""Print a benchmark's results as a table."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from neox_code.benchmarks.contest import Measured, compute_cpu_ratio, compute_median_ratio, compute_ratio


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


def print_figures(
    title: str, results: Sequence[Measured], columns: Mapping[str, Callable[[float], str]]
) -> dict[str, dict[str, float]]:
    """Print a table of several figures, with the ratio of each to that of the first row; return the medians over rounds.

    A ratio is the median over rounds of the ratio within a round. Each column has a function that formats its values.
    """
    series = {
        name: {column: [figures[name][column] for figures in measured.figures] for column in measured.figures[0][name]}
        for measured in results
        for name in measured.figures[0]
    }
    ours = next(iter(series.values()))
    table = Table(title=title)
    table.add_column("contestant", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
        table.add_column("to ours", justify="right")
    for name, values in series.items():
        cells = []
        for column, format_figure in columns.items():
            found = values.get(column)
            cells += (
                [format_figure(statistics.median(found)), f"{compute_median_ratio(found, ours[column]):.2f}"] if found else ["", ""]
            )
        table.add_row(name, *cells)
    Console(width=max(120, Console().width)).print(table)
    return {name: {column: statistics.median(found) for column, found in values.items()} for name, values in series.items()}
