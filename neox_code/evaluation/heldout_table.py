"""The figures of held-out files as a table for the console: `Console().print(heldout_table(result))`.

    language    files    bytes  model  gzip -9  xz -9  unigram  perplexity per token
    Python        212  911,043  1.642    1.870  1.812    3.021                  8.31
               joined                    1.795  1.490

Figures without a heading of their own are bits per byte.
"""

from rich import box
from rich.table import Table

from neox_code.evaluation.heldout_result import HeldoutResult, LanguageResult

JUDGES = {"model": "model", "gzip": "gzip -9", "xz": "xz -9", "unigram": "unigram"}
"""Columns of bits per byte, and their headings."""


def heldout_table(result: HeldoutResult) -> Table:
    """Two rows a language: every file by itself, and for the compressors all files joined. Languages without figures at the end."""
    table = Table(
        title=title(result),
        title_justify="left",
        caption=caption(result),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("language", no_wrap=True)
    for heading in ("files", "bytes", *JUDGES.values(), "perplexity\nper token"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = result.languages if len(result.languages) == 1 else (*result.languages, result.total)
    for row in rows:
        alone = [figure(row, judge, judge + "_alone") for judge in JUDGES]
        joined = [figure(row, judge + "_joined") for judge in JUDGES]
        table.add_row(row.language, f"{row.files:,}", f"{row.bytes:,}", *alone, f"{row.perplexity:.2f}")
        table.add_row("", "joined", "", *joined)
    return table


def figure(row: LanguageResult, *names: str) -> str:
    """Bits per byte under the first of the names that the row has."""
    return next((f"{row.bits_per_byte(name):.3f}" for name in names if name in row.bits), "")


def title(result: HeldoutResult) -> str:
    return f"bits per byte of held-out files: {result.checkpoint} on {result.split} of {result.corpus}"


def caption(result: HeldoutResult) -> str | None:
    """Return what the rows do not show, a line each; None where they show everything."""
    skipped = ", ".join(f"{count:,} {language}" for language, count in result.skipped.items())
    lines = [
        f"trained on, without held-out files: {', '.join(result.without_files)}" if result.without_files else "",
        f"skipped files that cannot be encoded: {skipped}" if skipped else "",
    ]
    return "\n".join(filter(None, lines)) or None
