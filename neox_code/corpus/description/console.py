"""Print a description on the console.

print_description(Console(), describe("corpus"))
"""

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.drops import list_drops, list_edited_files
from neox_code.corpus.description.manifest_figures import Example
from neox_code.corpus.description.tables import Table, make_tables
from neox_code.pages.number_formats import format_name, format_size, format_value


def print_description(console: Console, description: Description) -> None:
    console.print(Text(f"corpus {format_name(description.name)}, recipe {format_name(description.summary.recipe)}", style="bold"))
    for key, table in make_tables(description).items():
        print_table(console, table)
        if key == "decisions":
            print_drops(console, description)
        elif key == "edits":
            print_edited_files(console, description)


def print_table(console: Console, table: Table) -> None:
    """Print a table. In a narrow terminal its lines wrap; no figure is cut."""
    printed = rich_table.Table(title=Text(table.title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    cells = [[format_value(value, column.kind) for value, column in zip(row, table.columns, strict=True)] for row in table.rows]
    for index, column in enumerate(table.columns):
        is_name = column.kind == "name"
        widest = max(map(len, [*column.heading.split(), *(() if is_name else (row[index] for row in cells))]))
        printed.add_column(column.heading, justify="left" if is_name else "right", overflow="fold", min_width=widest)
    for number, row in enumerate(cells):
        is_sum = table.has_sum and number == len(cells) - 1
        printed.add_row(*map(Text, row), style="bold" if is_sum else "")
    console.print()
    width = Measurement.get(console, console.options.update_width(1000), printed).minimum
    console.print(printed, width=max(console.width, width), crop=False)
    if table.note:
        console.print(Text(table.note, style="dim"))


def print_drops(console: Console, description: Description) -> None:
    console.print(Text("\nDropped files: a sample of each reason, the same in every run", style="bold"))
    for drop in list_drops(description):
        files = "file" if drop.amount.files == 1 else "files"
        console.print(Text(f"{format_name(drop.reason)}: {drop.amount.files:,} {files} ({format_size(drop.amount.bytes)})"))
        print_examples(console, drop.examples)


def print_edited_files(console: Console, description: Description) -> None:
    console.print(Text("\nEdited files: a sample of the kept files with each edit", style="bold"))
    for edit, examples in list_edited_files(description).items():
        console.print(Text(format_name(edit)))
        print_examples(console, examples)


def print_examples(console: Console, examples: list[Example]) -> None:
    for example in examples:
        survivor = f", kept: {format_name(example.survivor)}" if example.survivor else ""
        console.print(Text(f"    {format_name(example.place)} ({format_size(example.num_bytes)}){survivor}"), soft_wrap=True)
