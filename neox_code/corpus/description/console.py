"""The description on the console.

show_description(Console(), describe("corpus"))
"""

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.drops import drops, edited_files
from neox_code.corpus.description.manifest_figures import Example
from neox_code.corpus.description.tables import Table, tables
from neox_code.pages.number_formats import name, size, written


def show_description(console: Console, description: Description) -> None:
    console.print(Text(f"corpus {name(description.name)}, recipe {name(description.summary.recipe)}", style="bold"))
    for key, table in tables(description).items():
        show_table(console, table)
        if key == "verdicts":
            show_drops(console, description)
        elif key == "edits":
            show_edited(console, description)


def show_table(console: Console, table: Table) -> None:
    """A terminal that is too narrow breaks the table's lines and cuts no figure."""
    shown = rich_table.Table(title=Text(table.title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    cells = [[written(value, column.kind) for value, column in zip(row, table.columns, strict=True)] for row in table.rows]
    for index, column in enumerate(table.columns):
        is_name = column.kind == "name"
        widest = max(map(len, [*column.heading.split(), *(() if is_name else (row[index] for row in cells))]))
        shown.add_column(column.heading, justify="left" if is_name else "right", overflow="fold", min_width=widest)
    for number, row in enumerate(cells):
        is_sum = table.has_sum and number == len(cells) - 1
        shown.add_row(*map(Text, row), style="bold" if is_sum else "")
    console.print()
    needed = Measurement.get(console, console.options.update_width(1000), shown).minimum
    console.print(shown, width=max(console.width, needed), crop=False)
    if table.note:
        console.print(Text(table.note, style="dim"))


def show_drops(console: Console, description: Description) -> None:
    console.print(Text("\nWhat was not kept: files by chance, the same every time", style="bold"))
    for drop in drops(description):
        files = "file" if drop.amount.files == 1 else "files"
        console.print(Text(f"{name(drop.reason)}: {drop.amount.files:,} {files} ({size(drop.amount.bytes)})"))
        show_examples(console, drop.examples)


def show_edited(console: Console, description: Description) -> None:
    console.print(Text("\nWhat was changed: kept files by chance", style="bold"))
    for edit, examples in edited_files(description).items():
        console.print(Text(name(edit)))
        show_examples(console, examples)


def show_examples(console: Console, examples: list[Example]) -> None:
    for example in examples:
        survivor = f", kept: {name(example.survivor)}" if example.survivor else ""
        console.print(Text(f"    {name(example.place)} ({size(example.num_bytes)}){survivor}"), soft_wrap=True)
