"""The figures of held-out files as a table for the console: `Console().print(make_heldout_table(result))`.

    language    files    bytes  model  gzip -9  xz -9  unigram  perplexity per token
    Python        212  911,043  1.642    1.870  1.812    3.021                  8.31
               joined                    1.795  1.490

Figures without a heading of their own are bits per byte.
"""

from rich import box
from rich.table import Table

from neox_code.evaluation.heldout_result import HeldoutResult, LanguageResult

METHODS = {"model": "model", "gzip": "gzip -9", "xz": "xz -9", "unigram": "unigram"}
"""Column of bits per byte -> its heading."""


def make_heldout_table(result: HeldoutResult) -> Table:
    """Return a table with two rows per language: each file alone, and for the compressors all files joined."""
    table = Table(
        title=format_title(result),
        title_justify="left",
        caption=format_caption(result),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("language", no_wrap=True)
    for heading in ("files", "bytes", *METHODS.values(), "perplexity\nper token"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = result.languages if len(result.languages) == 1 else (*result.languages, result.total)
    for row in rows:
        alone = [format_figure(row, method, method + "_alone") for method in METHODS]
        joined = [format_figure(row, method + "_joined") for method in METHODS]
        table.add_row(row.language, f"{row.files:,}", f"{row.bytes:,}", *alone, f"{row.perplexity:.2f}")
        table.add_row("", "joined", "", *joined)
    return table


def format_figure(row: LanguageResult, *names: str) -> str:
    """Return the bits per byte of the first method in `methods` that the row contains."""
    return next((f"{row.bits_per_byte(name):.3f}" for name in names if name in row.bits), "")


def format_title(result: HeldoutResult) -> str:
    return f"bits per byte of held-out files: {result.checkpoint} on {result.split} of {result.corpus}"


def format_caption(result: HeldoutResult) -> str | None:
    """Return lines on languages and files that have no figures, or None."""
    skipped = ", ".join(f"{count:,} {language}" for language, count in result.skipped.items())
    lines = [
        f"languages without held-out files: {', '.join(result.without_files)}" if result.without_files else "",
        f"skipped files that cannot be encoded: {skipped}" if skipped else "",
    ]
    return "\n".join(filter(None, lines)) or None
