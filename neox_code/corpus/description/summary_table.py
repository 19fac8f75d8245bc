"""What became of every file of a corpus, by language: rows for a report page, and the table that the console shows.

rows = language_table(load_summary("corpus"))
rows[0].found.files, rows[0].dropped["exact duplicate"].bytes, rows[0].splits["test"].projects
show_corpus(Console(), load_summary("corpus"))
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
    """A project counts once for each of the verdicts and languages that its files have."""

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.files + other.files, self.bytes + other.bytes, self.projects + other.projects)

    def __str__(self) -> str:
        return f"{self.files:,} ({self.bytes / 1e6:,.2f} MB)" if self.files else "-"


@dataclass(frozen=True)
class LanguageRow:
    """One language of a corpus (or all of them): `found` = `dropped`, summed, + `left_aside` + `kept`."""

    language: str
    found: Amount
    dropped: Mapping[str, Amount]
    """By reason."""
    left_aside: Amount
    """Passed every filter, but would have exceeded the limit of size."""
    kept: Amount
    splits: Mapping[str, Amount]
    """The kept files by split."""
    decoding_errors: int
    """Files (found and read) with bytes that are not UTF-8, which their text leaves out."""


def language_table(summary: CorpusSummary) -> list[LanguageRow]:
    """A row for each language found, the one with most kept bytes first; files of no known language are not among them."""
    by_language: dict[str, list[Count]] = defaultdict(list)
    for count in summary.counts:
        if count.language is not None:
            by_language[count.language].append(count)
    rows = [language_row(language, counts) for language, counts in by_language.items()]
    return sorted(rows, key=lambda row: (-row.kept.bytes, -row.found.bytes, row.language))


def total_row(summary: CorpusSummary) -> LanguageRow:
    """All languages together."""
    return language_row(TOTAL, [count for count in summary.counts if count.language is not None])


def other_files(summary: CorpusSummary) -> Amount:
    """What the table leaves out: files of no known language, links, archives and repositories that cannot be read."""
    return amount(count for count in summary.counts if count.language is None)


def verdicts_of_others(summary: CorpusSummary) -> str:
    amounts: dict[str, Amount] = defaultdict(Amount)
    for count in summary.counts:
        if count.language is None:
            amounts[count.verdict.partition(":")[0]] += amount([count])
    return ", ".join(f"{amounts[verdict]} {verdict}" for verdict in sorted(amounts, key=lambda verdict: -amounts[verdict].files))


def language_row(language: str, counts: Sequence[Count]) -> LanguageRow:
    reasons = sorted({count.verdict for count in counts} - {KEPT, LEFT_ASIDE})
    return LanguageRow(
        language,
        found=amount(counts),
        dropped={reason: amount(count for count in counts if count.verdict == reason) for reason in reasons},
        left_aside=amount(count for count in counts if count.verdict == LEFT_ASIDE),
        kept=amount(count for count in counts if count.verdict == KEPT),
        splits={split: amount(count for count in counts if count.split == split) for split in SPLITS},
        decoding_errors=sum(count.decoding_errors for count in counts),
    )


def amount(counts: Iterable[Count]) -> Amount:
    return sum((Amount(count.files, count.bytes, count.projects) for count in counts), Amount())


def drop_reasons(rows: Iterable[LanguageRow]) -> list[str]:
    """The reasons that occur, the one with most files first."""
    files: dict[str, int] = defaultdict(int)
    for row in rows:
        for reason, dropped in row.dropped.items():
            files[reason] += dropped.files
    return sorted(files, key=lambda reason: (-files[reason], reason))


def corpus_table(summary: CorpusSummary) -> Table:
    """The table for the console: files and bytes by language, found, dropped under each reason, left aside, kept, by split."""
    rows = language_table(summary)
    reasons = drop_reasons(rows)
    headings = ("language", "found", *reasons, LEFT_ASIDE, KEPT, *SPLITS)
    lines = [line_of(row, reasons) for row in (*rows, total_row(summary))]
    table = Table(title=f"corpus, recipe {summary.recipe}: files, and megabytes under them", title_justify="left")
    table.box, table.padding, table.pad_edge = SIMPLE_HEAD, 0, False
    for heading, *cells in zip(headings, *lines, strict=True):
        longest_word = max(len(word) for text in (heading, *cells) for word in text.split())
        table.add_column(heading, justify="left" if heading == headings[0] else "right", min_width=longest_word)
    for line in lines:
        table.add_row(*line)
    return table


def line_of(row: LanguageRow, reasons: Sequence[str]) -> list[str]:
    dropped = [row.dropped.get(reason, Amount()) for reason in reasons]
    amounts = (row.found, *dropped, row.left_aside, row.kept, *(row.splits[split] for split in SPLITS))
    return [row.language, *(f"{cell.files:,}\n{cell.bytes / 1e6:,.2f}" if cell.files else "-" for cell in amounts)]


def show_corpus(console: Console, summary: CorpusSummary) -> None:
    """Prints the table and the notes; a terminal that is too narrow breaks the table's lines and cuts no figure."""
    table = corpus_table(summary)
    needed = Measurement.get(console, console.options.update_width(1000), table).minimum
    console.print(table, width=max(console.width, needed), crop=False)
    for note in corpus_notes(summary):
        console.print(note, highlight=False)


def corpus_notes(summary: CorpusSummary) -> list[str]:
    """Sentences on what the table does not show."""
    rows = language_table(summary)
    judged = summary.judged_languages()
    is_tested = summary.settings.get("shares", {}).get("test") != 0
    unjudged = [row.language for row in rows if is_tested and row.kept.files and row.language not in judged]
    errors = sum(row.decoding_errors for row in rows)
    notes = {
        f"Seen besides, in no language: {verdicts_of_others(summary)}.": other_files(summary).files,
        f"{errors:,} {'file was' if errors == 1 else 'files were'} not UTF-8 throughout: decoded with errors ignored.": errors,
        f"Without held-out figures, for want of projects or of bytes: {', '.join(unjudged)}.": unjudged,
    }
    return [note for note, applies in notes.items() if applies]
