"""Show what a checkpoint holds: format, sizes, layout, iteration, tokens, parameters with their norms, and damage.

    python tools/inspect_checkpoint.py checkpoints
    python tools/inspect_checkpoint.py checkpoints --iteration 1000 --compare model

PATH and OTHER are folders of any format that is read: checkpoints of this package and of GPT-NeoX, and models of Hugging Face. The
exit status is 2 for a damaged checkpoint; its readable part is shown. `--compare` lists the parameters that differ, each with the
norm of the difference, and the keys of the configuration that differ.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import set_up  # noqa: F401
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from neox_code.config.command_line import Parser, add_json_option, parse_non_negative_integer, parse_path, report_figures
from neox_code.conversion.inspection import Inspection, ModelComparison, compare_models, inspect_model
from neox_code.errors import EXIT_USER_ERROR, print_error, run_command
from neox_code.pages.number_formats import escape_invisible, format_size


def main(argv: Sequence[str]) -> int:
    """Print the figures of a checkpoint, and what differs from another; return the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("path", type=parse_path, metavar="PATH", help="the folder of the checkpoint or model")
    parser.add_argument("--compare", type=parse_path, metavar="OTHER", help="list what differs from the model in this folder")
    parser.add_argument("--iteration", type=parse_non_negative_integer, metavar="N", help="read global_stepN instead of the latest")
    add_json_option(parser)
    words = parser.parse_args(argv)
    with report_figures(words.json) as figures:
        console = Console()
        inspection = inspect_model(words.path, words.iteration)
        figures |= inspection.to_json()
        print_inspection(console, inspection)
        for problem in inspection.damage:
            print_error(escape_invisible(problem))
        if words.compare and not inspection.damage:
            comparison = compare_models(words.path, words.compare, words.iteration)
            figures["comparison"] = asdict(comparison) | {"other": words.compare}
            print_comparison(console, comparison)
    return EXIT_USER_ERROR if inspection.damage else 0


def print_inspection(console: Console, inspection: Inspection) -> None:
    """Print the properties of a checkpoint, one per line, and the table of its parameters."""
    layout = ", ".join(f"{key} {value:,}" for key, value in inspection.layout.items())
    facts = {
        "checkpoint": str(inspection.folder),
        "format": inspection.form,
        "written by": inspection.writer,
        "layout": layout,
        "iteration": format_count(inspection.iteration),
        "tokens seen": format_count(inspection.tokens),
        "files": f"{inspection.files:,}, {format_size(inspection.bytes)}",
        "vocabulary": f"{inspection.vocabulary or 'none'}, entries {format_count(inspection.entries)}",
        "parameters": f"{inspection.num_parameters:,}",
    }
    for name, value in facts.items():
        console.print(Text(f"{name:12} {escape_invisible(value)}"), soft_wrap=True)
    rows = [
        (row.name, format_shape(row.shape), row.dtype, f"{row.norm:.6g}", f"{row.not_finite:,}" if row.not_finite else "")
        for row in inspection.parameters
    ]
    print_rows(console, ("parameter", "shape", "dtype", "norm", "not finite"), rows)
    for remark in inspection.remarks:
        console.print(Text(escape_invisible(remark)), soft_wrap=True)
    if not inspection.damage:
        console.print("no damage found", highlight=False)


def print_comparison(console: Console, comparison: ModelComparison) -> None:
    """Print the parameters and the keys that differ, and the number of parameters that are equal."""
    console.print(f"\n{comparison.num_equal:,} parameters are equal, {len(comparison.parameters):,} differ", highlight=False)
    rows = [
        (
            row.name,
            format_pair(*map(format_shape, row.shapes)),
            format_pair(*row.dtypes),
            format_number(row.norm),
            format_number(row.relative),
        )
        for row in comparison.parameters
    ]
    print_rows(console, ("parameter", "shape", "dtype", "norm of difference", "relative"), rows)
    print_rows(console, ("key", "here", "other"), [(key, str(a), str(b)) for key, (a, b) in comparison.keys.items()])


def print_rows(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. If the terminal is too narrow, lines wrap; no name is cut."""
    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if "norm" in heading or heading == "relative" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(escape_invisible(cell)) for cell in row))
    width = Measurement.get(console, console.options.update_width(10_000), table).maximum
    console.width = max(console.width, width)  # the argument of print() of this name is cut to the terminal's width
    console.print(table, crop=False)


def format_count(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def format_number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def format_shape(shape: Sequence[int] | None) -> str:
    """
    >>> format_shape((640, 64)), format_shape(None)
    ('640 x 64', '')
    """
    return "" if shape is None else " x ".join(map(str, shape))


def format_pair(first: Any, second: Any) -> str:
    """Return two values as "FIRST | SECOND"; if they are equal, as one. "none" stands for a missing value.

    >>> format_pair("float32", "float32"), format_pair("float32", None)
    ('float32', 'float32 | none')
    """
    return str(first) if first == second else f"{first or 'none'} | {second or 'none'}"


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
