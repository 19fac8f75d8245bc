"""Numbers of kept and dropped files by language: rows for a report page, and the table on the console.

rows = summarize_languages(load_summary("corpus"))
rows[0].found.files, rows[0].dropped["exact duplicate"].bytes, rows[0].splits["test"].projects
print_corpus_table(Console(), load_summary("corpus"))
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from neox_code.corpus.pipeline.index import LEFT_ASIDE
from neox_code.corpus.shards import KEPT, SPLITS, CorpusSummary, Count

TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Amount:
    files: int = 0
    bytes: int = 0
    projects: int = 0
    """Number of projects. A project is counted once for each combination of outcome and language of its files."""

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.files + other.files, self.bytes + other.bytes, self.projects + other.projects)

    def __str__(self) -> str:
        return f"{self.files:,} ({self.bytes / 1e6:,.2f} MB)" if self.files else "-"


@dataclass(frozen=True)
class LanguageRow:
    """Amounts of one language, or of all languages together: `found` = `kept` + `left_aside` + sum of `dropped`."""

    language: str
    found: Amount
    dropped: Mapping[str, Amount]
    """Dropped files by reason."""
    left_aside: Amount
    """Files that passed every filter and were left out because the corpus had reached its size limit."""
    kept: Amount
    splits: Mapping[str, Amount]
    """Kept files by split."""
    decoding_errors: int
    """Number of files with bytes that are not UTF-8; these bytes are left out of the text."""


def summarize_languages(summary: CorpusSummary) -> list[LanguageRow]:
    """Return a row for each language found, the one with most kept bytes first; files of no known language are left out."""
    by_language: dict[str, list[Count]] = defaultdict(list)
    for count in summary.counts:
        if count.language is not None:
            by_language[count.language].append(count)
    rows = [summarize_counts(language, counts) for language, counts in by_language.items()]
    return sorted(rows, key=lambda row: (-row.kept.bytes, -row.found.bytes, row.language))


def summarize_total(summary: CorpusSummary) -> LanguageRow:
    return summarize_counts(TOTAL, [count for count in summary.counts if count.language is not None])


def count_other_files(summary: CorpusSummary) -> Amount:
    """Return the amount of everything without a known language: other files, links, unreadable archives and repositories."""
    return sum_counts(count for count in summary.counts if count.language is None)


def format_other_decisions(summary: CorpusSummary) -> str:
    amounts: dict[str, Amount] = defaultdict(Amount)
    for count in summary.counts:
        if count.language is None:
            amounts[count.verdict.partition(":")[0]] += sum_counts([count])
    return ", ".join(f"{amounts[reason]} {reason}" for reason in sorted(amounts, key=lambda reason: -amounts[reason].files))


def summarize_counts(language: str, counts: Sequence[Count]) -> LanguageRow:
    """Return the row of a language from its counts."""
    reasons = sorted({count.verdict for count in counts} - {KEPT, LEFT_ASIDE})
    return LanguageRow(
        language,
        found=sum_counts(counts),
        dropped={reason: sum_counts(count for count in counts if count.verdict == reason) for reason in reasons},
        left_aside=sum_counts(count for count in counts if count.verdict == LEFT_ASIDE),
        kept=sum_counts(count for count in counts if count.verdict == KEPT),
        splits={split: sum_counts(count for count in counts if count.split == split) for split in SPLITS},
        decoding_errors=sum(count.decoding_errors for count in counts),
    )


def sum_counts(counts: Iterable[Count]) -> Amount:
    return sum((Amount(count.files, count.bytes, count.projects) for count in counts), Amount())


def list_drop_reasons(rows: Iterable[LanguageRow]) -> list[str]:
    """Return the reasons that occur, the one with most files first."""
    files: dict[str, int] = defaultdict(int)
    for row in rows:
        for reason, dropped in row.dropped.items():
            files[reason] += dropped.files
    return sorted(files, key=lambda reason: (-files[reason], reason))


def make_corpus_table(summary: CorpusSummary) -> Table:
    """Return the table of files and megabytes by language: found, dropped under each reason, left aside, kept, by split."""
    rows = summarize_languages(summary)
    reasons = list_drop_reasons(rows)
    headings = ("language", "found", *reasons, LEFT_ASIDE, KEPT, *SPLITS)
    lines = [format_cells(row, reasons) for row in (*rows, summarize_total(summary))]
    table = Table(title=f"corpus, recipe {summary.recipe}: files, and megabytes under them", title_justify="left")
    table.box, table.padding, table.pad_edge = SIMPLE_HEAD, 0, False
    for heading, *cells in zip(headings, *lines, strict=True):
        longest_word = max(len(word) for text in (heading, *cells) for word in text.split())
        table.add_column(heading, justify="left" if heading == headings[0] else "right", min_width=longest_word)
    for line in lines:
        table.add_row(*line)
    return table


def format_cells(row: LanguageRow, reasons: Sequence[str]) -> list[str]:
    dropped = [row.dropped.get(reason, Amount()) for reason in reasons]
    amounts = (row.found, *dropped, row.left_aside, row.kept, *(row.splits[split] for split in SPLITS))
    return [row.language, *(f"{cell.files:,}\n{cell.bytes / 1e6:,.2f}" if cell.files else "-" for cell in amounts)]


def print_corpus_table(console: Console, summary: CorpusSummary) -> None:
    """Print the table and its notes; in a narrow terminal its lines wrap, and no figure is cut."""
    table = make_corpus_table(summary)
    width = Measurement.get(console, console.options.update_width(1000), table).minimum
    console.print(table, width=max(console.width, width), crop=False)
    for note in format_corpus_notes(summary):
        console.print(note, highlight=False)


def format_corpus_notes(summary: CorpusSummary) -> list[str]:
    """Return sentences on files and languages that the table does not show."""
    rows = summarize_languages(summary)
    measured = summary.evaluated_languages()
    is_tested = summary.settings.get("shares", {}).get("test") != 0
    unmeasured = [row.language for row in rows if is_tested and row.kept.files and row.language not in measured]
    errors = sum(row.decoding_errors for row in rows)
    notes = {
        f"Files without a known language: {format_other_decisions(summary)}.": count_other_files(summary).files,
        f"{errors:,} {'file has' if errors == 1 else 'files have'} bytes that are not UTF-8, which are left out.": errors,
        f"Languages with too few projects or bytes for held-out figures: {', '.join(unmeasured)}.": unmeasured,
    }
    return [note for note, applies in notes.items() if applies]
