"""Make tables of plain values from the description of a corpus. The console and the report page format them.

for table in make_tables(description).values():
    print(table.title, [column.heading for column in table.columns], table.rows[0])
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.manifest_figures import OUTCOMES
from neox_code.corpus.description.summary_table import TOTAL, Amount, LanguageRow, summarize_languages, summarize_total
from neox_code.corpus.shards import KEPT, SPLITS
from neox_code.pages.number_formats import Kind, format_size

LONGEST_LIST = 20
QUANTILES = (0.1, 0.5, 0.9, 0.99)
NONE_FOUND = "none found"
NOT_READ = "not read"
NOTE_ON_ENCODINGS = "Every file found; files dropped for their name or size are not read."
STAR_RANGE_STARTS = (0, 1, 10, 50, 100, 1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Column:
    heading: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Any, ...]]
    """A cell is None if there is no value."""
    note: str = ""
    has_sum: bool = False
    """True if the last row is the sum of the others."""


def make_columns(**kinds: Kind) -> tuple[Column, ...]:
    """Return a column for each keyword, with the keyword as its heading.

    >>> make_columns(files="count", share_of_files="share")[1]
    Column(heading='share of files', kind='share')
    """
    return tuple(Column(name.replace("_", " "), kind) for name, kind in kinds.items())


def make_tables(description: Description) -> dict[str, Table]:
    """Return the tables that have rows, in the order of TABLES."""
    all_tables = {name: make(description) for name, make in TABLES.items()}
    return {name: table for name, table in all_tables.items() if table.rows}


def make_languages_table(description: Description) -> Table:
    """Return the table of files, bytes and tokens by language."""
    found = summarize_languages(description.summary)
    rows = [make_language_cells(row, description) for row in found]
    rows.append(make_language_cells(summarize_total(description.summary), description))
    others = description.manifest.files.total(language=None)
    note = f"{others.files:,} further files ({format_size(others.bytes)}) have no language or are links. " if others.files else ""
    if description.documents.tokens is None and description.fertility:
        note += "Tokens are estimated: bytes of text divided by the bytes per token of the sample below."
    file_columns = make_columns(language="name", found="count", dropped="count", left_aside="count", kept="count", projects="count")
    byte_columns = make_columns(bytes_found="bytes", bytes_kept="bytes", bytes_of_text="bytes", tokens="count")
    return Table("Languages", file_columns + byte_columns, rows if found else (), note.strip(), has_sum=True)


def make_language_cells(row: LanguageRow, description: Description) -> tuple[Any, ...]:
    texts = description.documents.languages
    names = list(texts) if row.language == TOTAL else [row.language]
    text_bytes = sum(texts[name].bytes for name in names if name in texts)
    dropped = row.found.files - row.kept.files - row.left_aside.files
    projects = description.manifest.num_repositories if row.language == TOTAL else row.kept.projects
    files = (row.found.files, dropped, row.left_aside.files, row.kept.files, projects)
    return (row.language, *files, row.found.bytes, row.kept.bytes, text_bytes, estimate_tokens(names, description))


def estimate_tokens(names: Iterable[str], description: Description) -> int | None:
    """Return the number of tokens of these languages together; None if a language has neither a count nor a sample.

    A language without a count is estimated from its sample's bytes per token, and the sum is then rounded to three digits.
    """
    counted, estimated = 0, 0.0
    for name in names:
        amount, sampled = description.documents.languages.get(name), description.fertility.get(name)
        if amount is None:
            continue
        if amount.bytes == amount.bytes_with_tokens:
            counted += amount.tokens
        elif sampled is not None and sampled.bytes_per_token:
            estimated += amount.bytes / sampled.bytes_per_token
        else:
            return None
    return round_to_three_digits(counted + estimated) if estimated else counted


def round_to_three_digits(count: float) -> int:
    """Return a number rounded to three significant digits.

    >>> round_to_three_digits(36_678_176), round_to_three_digits(12)
    (36700000, 12)
    """
    return int(float(f"{count:.3g}"))


def make_decisions_table(description: Description) -> Table:
    by_reason = description.manifest.files.group_by("verdict")
    kept = {KEPT: by_reason.pop(KEPT)} if KEPT in by_reason else {}
    note = "Every file found is in one row. A file is dropped by the first rule that rejects it."
    return make_shares_table("From found to kept", "decision", kept | by_reason, note)


def make_shares_table(title: str, heading: str, amounts: Mapping[Any, Amount], note: str = "", most: int | None = None) -> Table:
    """Return a table of files and bytes with their shares of the total. Rows after the first `most` are added up in one row."""
    total = sum(amounts.values(), Amount())
    rows = [make_amount_cells(name, amount, total) for name, amount in amounts.items()]
    if most is not None and len(rows) > most:
        rest = sum(list(amounts.values())[most:], Amount())
        rows[most:] = [make_amount_cells(f"{len(rows) - most:,} others", rest, total)]
    heads = (Column(heading, "name"), *make_columns(files="count", share_of_files="share", bytes="bytes", share_of_bytes="share"))
    return Table(title, heads, rows, note)


def make_amount_cells(name: Any, amount: Amount, whole: Amount) -> tuple[Any, ...]:
    return (name, amount.files, compute_share(amount.files, whole.files), amount.bytes, compute_share(amount.bytes, whole.bytes))


def compute_share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def make_duplicates_table(description: Description) -> Table:
    """Return the table of duplicates by reason; shares are relative to the files that passed every filter."""
    manifest = description.manifest
    reasons = manifest.duplicates.group_by("verdict")
    compared = sum(reasons.values(), Amount()) + manifest.files.total(where=lambda row: row["verdict"] in OUTCOMES[:2])
    own = manifest.duplicates.group_by("verdict", is_own=True)
    rows = [
        (*make_amount_cells(reason, amount, compared), own_amount.files, amount.files - own_amount.files)
        for reason, amount in reasons.items()
        for own_amount in [own.get(reason, Amount())]
    ]
    heads = make_columns(reason="name", files="count", share_of_files="share", bytes="bytes", share_of_bytes="share")
    heads += make_columns(kept_file_in_the_same_repository="count", in_another="count")
    note = f"{compared.files:,} files ({format_size(compared.bytes)}) passed every filter; one file of each cluster is kept."
    return Table("Duplicates", heads, rows, note)


def make_sizes_table(description: Description) -> Table:
    """Return the table of size quantiles of the kept files, by language."""
    measured = description.manifest.sizes
    kept = {str(language): [(language, outcome)] for language, outcome in measured.groups() if outcome == KEPT}
    order = [name for name in description.summary.languages() if name in kept]
    groups = [(name, kept[name]) for name in order]
    if len(groups) > 1:
        groups.append(("all", [group for own in kept.values() for group in own]))
    rows = [
        (
            name,
            sum(measured.count_size_ranges(group)),
            *(measured.quantile(group, part) for part in QUANTILES),
            measured.largest(group),
        )
        for name, group in groups
    ]
    heads = make_columns(language="name", files="count")
    heads += tuple(Column(heading, "bytes") for heading in (*(f"{part:.0%} up to" for part in QUANTILES), "largest"))
    note = "Sizes of the kept files as found: the given share of the files is at most so large, within 2%."
    return Table("Sizes", heads, rows, note, has_sum=len(groups) > 1)


def make_licenses_table(description: Description) -> Table:
    kept = description.manifest.licenses.group_by("license", verdict=KEPT)
    note = "Kept files by SPDX expression: the file's own license, else that of its project."
    return make_shares_table(
        "Licenses", "license", {name or NONE_FOUND: amount for name, amount in kept.items()}, note, LONGEST_LIST
    )


def make_edits_table(description: Description) -> Table:
    """Return the table of the edits made to files."""
    counts = description.manifest.edits
    kept, all_files = counts.group_by("edit", outcome=KEPT), counts.group_by("edit")
    whole = description.manifest.files.total(verdict=KEPT)
    rows = [
        (name, found.files, compute_share(found.files, whole.files), found.bytes, all_files[name].files)
        for name in all_files
        for found in [kept.get(name, Amount())]
    ]
    heads = make_columns(
        edit="name", kept_files="count", share_of_kept="share", bytes="bytes", files_with_those_dropped_later="count"
    )
    return Table("Edits", heads, rows, "Changes made to the texts; bytes are the sizes of the kept files as found.")


def make_column_table(description: Description, title: str, column: str, note: str) -> Table:
    """Return a table of found and kept files with one row for each value of a column of the manifest."""
    files = description.manifest.files
    seen, kept = files.group_by(column), files.group_by(column, verdict=KEPT)
    total = sum(kept.values(), Amount())
    rows = [
        (
            name or NOT_READ,
            amount.files,
            amount.bytes,
            kept.get(name, Amount()).files,
            compute_share(kept.get(name, Amount()).files, total.files),
        )
        for name, amount in seen.items()
    ]
    heads = make_columns(as_found="name", files="count", bytes="bytes", kept="count", share_of_kept="share")
    return Table(title, heads, rows, note)


def make_splits_table(description: Description) -> Table:
    """Return the table of the splits, with the six largest languages of each."""
    files, repositories = description.manifest.files, description.manifest.repositories
    total = files.total(verdict=KEPT)
    rows = []
    for split in SPLITS:
        amount = files.total(split=split)
        by_language = sorted(files.group_by("language", split=split).items(), key=lambda item: -item[1].bytes)
        names = ", ".join(f"{name} {format_size(found.bytes)}" for name, found in by_language[:6])
        count = len(repositories.group_by("repository", split=split))
        rows.append((split, amount.files, amount.bytes, compute_share(amount.bytes, total.bytes), count, names or None))
    heads = make_columns(split="name", files="count", bytes="bytes", share_of_bytes="share", repositories="count")
    shared = len(repositories) - description.manifest.num_repositories
    note = f"Repositories in more than one split: {shared:,}." if shared else "No repository is in more than one split."
    return Table("Splits", (*heads, Column("languages", "name")), rows, note)


def make_fertility_table(description: Description) -> Table:
    """Return the table of bytes per token by language."""
    order = [name for name in description.summary.languages() if name in description.fertility]
    rows = [
        (name, found.bytes_per_token, found.margin, found.documents, found.bytes, found.tokens)
        for name in order
        for found in [description.fertility[name]]
    ]
    heads = make_columns(
        language="name", bytes_per_token="ratio", plus_or_minus="ratio", documents="count", bytes="bytes", tokens="count"
    )
    return Table("Fertility", heads, rows, description.fertility_method)


def make_stars_table(description: Description) -> Table:
    """Return the table of repositories by ranges of stars; it has no rows if no repository's stars are known."""
    known = description.documents.stars
    if not known:
        return Table("Stars", (), ())
    kept = description.manifest.repositories.group_by("repository")
    projects: dict[int | None, list[Amount]] = {start: [] for start in (*STAR_RANGE_STARTS, None)}
    for name, amount in kept.items():
        start = max(start for start in STAR_RANGE_STARTS if start <= max(known[name], 0)) if name in known else None
        projects[start].append(amount)
    rows = [
        (format_star_range(start), len(amounts), compute_share(len(amounts), len(kept)), total.files, total.bytes)
        for start, amounts in projects.items()
        if amounts
        for total in [sum(amounts, Amount())]
    ]
    heads = make_columns(stars="name", repositories="count", share_of_repositories="share", files="count", bytes="bytes")
    return Table("Stars", heads, rows, "Repositories with kept files.")


def format_star_range(start: int | None) -> str:
    """Return a label of the range that begins at one of STAR_RANGE_STARTS.

    >>> format_star_range(10), format_star_range(0), format_star_range(100_000), format_star_range(None)
    ('10 to 49', '0', '100,000 and more', 'not known')
    """
    if start is None:
        return "not known"
    following = next((other for other in STAR_RANGE_STARTS if other > start), None)
    if following is None:
        return f"{start:,} and more"
    return f"{start:,}" if following == start + 1 else f"{start:,} to {following - 1:,}"


def make_repositories_table(description: Description) -> Table:
    """Return the table of the largest repositories by kept bytes."""
    kept = description.manifest.repositories
    total = kept.total()
    largest = sorted(kept.group_by("repository", "split").items(), key=lambda item: (-item[1].bytes, item[0]))[:LONGEST_LIST]
    known = description.documents.stars
    rows = [
        (name, split, amount.files, amount.bytes, compute_share(amount.bytes, total.bytes), *([known.get(name)] if known else ()))
        for (name, split), amount in largest
    ]
    heads = make_columns(repository="name", split="name", kept_files="count", bytes="bytes", share_of_bytes="share")
    heads += make_columns(stars="count") if known else ()
    note = f"{description.manifest.num_repositories:,} repositories have kept files."
    return Table("Largest repositories", heads, rows, note)


TABLES: dict[str, Callable[[Description], Table]] = {
    "languages": make_languages_table,
    "decisions": make_decisions_table,
    "duplicates": make_duplicates_table,
    "sizes": make_sizes_table,
    "licenses": make_licenses_table,
    "edits": make_edits_table,
    "encodings": partial(make_column_table, title="Encodings", column="encoding", note=NOTE_ON_ENCODINGS),
    "newlines": partial(make_column_table, title="Line ends", column="newlines", note="Every file found."),
    "splits": make_splits_table,
    "fertility": make_fertility_table,
    "stars": make_stars_table,
    "repositories": make_repositories_table,
}
"""Functions that make the tables, in the order of the page; a key is the table's anchor on the page."""
