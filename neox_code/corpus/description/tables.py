"""The description as tables of plain values, which the console and the page show each in its way.

for table in tables(description).values():
    print(table.title, [column.heading for column in table.columns], table.rows[0])
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.manifest_figures import FATES
from neox_code.corpus.description.summary_table import TOTAL, Amount, LanguageRow, language_table, total_row
from neox_code.corpus.shards import KEPT, SPLITS
from neox_code.pages.number_formats import Kind, size

LONGEST_LIST = 20
QUANTILES = (0.1, 0.5, 0.9, 0.99)
NONE_FOUND = "none found"
NOT_READ = "not read"
STEPS_OF_STARS = (0, 1, 10, 50, 100, 1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Column:
    heading: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Any, ...]]
    """Where there is nothing to say, None."""
    note: str = ""
    has_sum: bool = False
    """Whether the last row is the sum of the others."""


def columns(**kinds: Kind) -> tuple[Column, ...]:
    """
    >>> columns(files="count", share_of_files="share")[1]
    Column(heading='share of files', kind='share')
    """
    return tuple(Column(name.replace("_", " "), kind) for name, kind in kinds.items())


def tables(description: Description) -> dict[str, Table]:
    """By the name of the function that makes them; those with rows."""
    made = {make.__name__: make(description) for make in TABLES}
    return {name: table for name, table in made.items() if table.rows}


def languages(description: Description) -> Table:
    found = language_table(description.summary)
    rows = [language_line(row, description) for row in found]
    rows.append(language_line(total_row(description.summary), description))
    others = description.manifest.files.total(language=None)
    note = f"{others.files:,} further files ({size(others.bytes)}) are in no language, or links. " if others.files else ""
    if description.documents.tokens is None and description.fertility:
        note += "Tokens are the bytes of text, divided by the bytes of a token in the sample below."
    names = columns(language="name", found="count", dropped="count", left_aside="count", kept="count", projects="count")
    amounts = columns(bytes_found="bytes", bytes_kept="bytes", bytes_of_text="bytes", tokens="count")
    return Table("Languages", names + amounts, rows if found else (), note.strip(), has_sum=True)


def language_line(row: LanguageRow, description: Description) -> tuple[Any, ...]:
    texts = description.documents.languages
    names = list(texts) if row.language == TOTAL else [row.language]
    text_bytes = sum(texts[name].bytes for name in names if name in texts)
    dropped = row.found.files - row.kept.files - row.left_aside.files
    projects = description.manifest.num_repositories if row.language == TOTAL else row.kept.projects
    files = (row.found.files, dropped, row.left_aside.files, row.kept.files, projects)
    return (row.language, *files, row.found.bytes, row.kept.bytes, text_bytes, tokens_of(names, description))


def tokens_of(names: Iterable[str], description: Description) -> int | None:
    """Counted, or told in three digits by the bytes of a token in the sample; None where a language has neither."""
    counted, told = 0, 0.0
    for name in names:
        amount, sampled = description.documents.languages.get(name), description.fertility.get(name)
        if amount is None:
            continue
        if amount.bytes == amount.bytes_with_tokens:
            counted += amount.tokens
        elif sampled is not None and sampled.bytes_per_token:
            told += amount.bytes / sampled.bytes_per_token
        else:
            return None
    return three_digits(counted + told) if told else counted


def three_digits(count: float) -> int:
    """
    >>> three_digits(36_678_176), three_digits(12)
    (36700000, 12)
    """
    return int(float(f"{count:.3g}"))


def verdicts(description: Description) -> Table:
    by_verdict = description.manifest.files.by("verdict")
    kept = {KEPT: by_verdict.pop(KEPT)} if KEPT in by_verdict else {}
    note = "Every file that was seen is under one of these. A file is dropped by the first rule that does not take it."
    return shares_table("From found to kept", "verdict", kept | by_verdict, note)


def shares_table(title: str, heading: str, amounts: Mapping[Any, Amount], note: str = "", most: int | None = None) -> Table:
    """Files and bytes, and their shares; rows beyond `most` are summed up."""
    total = sum(amounts.values(), Amount())
    rows = [files_and_bytes(name, amount, total) for name, amount in amounts.items()]
    if most is not None and len(rows) > most:
        rest = sum(list(amounts.values())[most:], Amount())
        rows[most:] = [files_and_bytes(f"{len(rows) - most:,} others", rest, total)]
    heads = (Column(heading, "name"), *columns(files="count", share_of_files="share", bytes="bytes", share_of_bytes="share"))
    return Table(title, heads, rows, note)


def files_and_bytes(name: Any, amount: Amount, whole: Amount) -> tuple[Any, ...]:
    return (name, amount.files, share(amount.files, whole.files), amount.bytes, share(amount.bytes, whole.bytes))


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def duplicates(description: Description) -> Table:
    """Shares are of the files that passed every filter."""
    manifest = description.manifest
    reasons = manifest.duplicates.by("verdict")
    compared = sum(reasons.values(), Amount()) + manifest.files.total(where=lambda row: row["verdict"] in FATES[:2])
    own = manifest.duplicates.by("verdict", is_own=True)
    rows = [
        (*files_and_bytes(reason, amount, compared), in_own.files, amount.files - in_own.files)
        for reason, amount in reasons.items()
        for in_own in [own.get(reason, Amount())]
    ]
    heads = columns(reason="name", files="count", share_of_files="share", bytes="bytes", share_of_bytes="share")
    heads += columns(survivor_in_the_same_repository="count", in_another="count")
    note = f"Of {compared.files:,} files ({size(compared.bytes)}) that had passed every filter; one file of each cluster survives."
    return Table("Duplicates", heads, rows, note)


def sizes(description: Description) -> Table:
    """Of kept files."""
    measured = description.manifest.sizes
    kept = {str(language): [(language, fate)] for language, fate in measured.groups() if fate == KEPT}
    order = [name for name in description.summary.languages() if name in kept]
    groups = [(name, kept[name]) for name in order]
    if len(groups) > 1:
        groups.append(("all", [group for own in kept.values() for group in own]))
    rows = [
        (
            name,
            sum(measured.octaves(group)),
            *(measured.quantile(group, part) for part in QUANTILES),
            measured.largest(group),
        )
        for name, group in groups
    ]
    heads = columns(language="name", files="count")
    heads += tuple(Column(heading, "bytes") for heading in (*(f"{part:.0%} up to" for part in QUANTILES), "largest"))
    note = "Bytes of kept files as found: how many of the files are at most so large, within 2%."
    return Table("Sizes", heads, rows, note, has_sum=len(groups) > 1)


def licenses(description: Description) -> Table:
    kept = description.manifest.licenses.by("license", verdict=KEPT)
    note = "Of kept files, as SPDX expressions: the file's own, else its project's."
    return shares_table("Licenses", "license", {name or NONE_FOUND: amount for name, amount in kept.items()}, note, LONGEST_LIST)


def edits(description: Description) -> Table:
    made = description.manifest.edits
    kept, all_files = made.by("edit", fate=KEPT), made.by("edit")
    whole = description.manifest.files.total(verdict=KEPT)
    rows = [
        (name, found.files, share(found.files, whole.files), found.bytes, all_files[name].files)
        for name in all_files
        for found in [kept.get(name, Amount())]
    ]
    heads = columns(edit="name", kept_files="count", share_of_kept="share", bytes="bytes", files_with_those_dropped_later="count")
    return Table("Edits", heads, rows, "What was changed in the texts of files; the bytes are those of the kept files as found.")


def encodings(description: Description) -> Table:
    note = "Of every file that was seen; what was dropped for its name or size was not read."
    return of_files(description, "Encodings", "encoding", note)


def newlines(description: Description) -> Table:
    return of_files(description, "Line ends", "newlines", "Of every file that was seen.")


def of_files(description: Description, title: str, column: str, note: str) -> Table:
    files = description.manifest.files
    seen, kept = files.by(column), files.by(column, verdict=KEPT)
    total = sum(kept.values(), Amount())
    rows = [
        (
            name or NOT_READ,
            amount.files,
            amount.bytes,
            kept.get(name, Amount()).files,
            share(kept.get(name, Amount()).files, total.files),
        )
        for name, amount in seen.items()
    ]
    heads = columns(as_found="name", files="count", bytes="bytes", kept="count", share_of_kept="share")
    return Table(title, heads, rows, note)


def splits(description: Description) -> Table:
    files, repositories = description.manifest.files, description.manifest.repositories
    total = files.total(verdict=KEPT)
    rows = []
    for split in SPLITS:
        amount = files.total(split=split)
        by_language = sorted(files.by("language", split=split).items(), key=lambda item: -item[1].bytes)
        names = ", ".join(f"{name} {size(found.bytes)}" for name, found in by_language[:6])
        count = len(repositories.by("repository", split=split))
        rows.append((split, amount.files, amount.bytes, share(amount.bytes, total.bytes), count, names or None))
    heads = columns(split="name", files="count", bytes="bytes", share_of_bytes="share", repositories="count")
    shared = len(repositories) - description.manifest.num_repositories
    note = f"Repositories in two of them: {shared:,}." if shared else "No repository is in two of them."
    return Table("Splits", (*heads, Column("languages", "name")), rows, note)


def fertility(description: Description) -> Table:
    order = [name for name in description.summary.languages() if name in description.fertility]
    rows = [
        (name, found.bytes_per_token, found.margin, found.documents, found.bytes, found.tokens)
        for name in order
        for found in [description.fertility[name]]
    ]
    heads = columns(
        language="name", bytes_per_token="ratio", plus_or_minus="ratio", documents="count", bytes="bytes", tokens="count"
    )
    return Table("Fertility", heads, rows, description.fertility_of)


def stars(description: Description) -> Table:
    known = description.documents.stars
    if not known:
        return Table("Stars", (), ())
    kept = description.manifest.repositories.by("repository")
    projects: dict[int | None, list[Amount]] = {step: [] for step in (*STEPS_OF_STARS, None)}
    for name, amount in kept.items():
        step = max(step for step in STEPS_OF_STARS if step <= max(known[name], 0)) if name in known else None
        projects[step].append(amount)
    rows = [
        (span(step), len(amounts), share(len(amounts), len(kept)), total.files, total.bytes)
        for step, amounts in projects.items()
        if amounts
        for total in [sum(amounts, Amount())]
    ]
    heads = columns(stars="name", repositories="count", share_of_repositories="share", files="count", bytes="bytes")
    return Table("Stars", heads, rows, "Of the repositories with kept files.")


def span(step: int | None) -> str:
    """
    >>> span(10), span(0), span(100_000), span(None)
    ('10 to 49', '0', '100,000 and more', 'not known')
    """
    if step is None:
        return "not known"
    following = next((other for other in STEPS_OF_STARS if other > step), None)
    if following is None:
        return f"{step:,} and more"
    return f"{step:,}" if following == step + 1 else f"{step:,} to {following - 1:,}"


def repositories(description: Description) -> Table:
    kept = description.manifest.repositories
    total = kept.total()
    largest = sorted(kept.by("repository", "split").items(), key=lambda item: (-item[1].bytes, item[0]))[:LONGEST_LIST]
    known = description.documents.stars
    rows = [
        (name, split, amount.files, amount.bytes, share(amount.bytes, total.bytes), *([known.get(name)] if known else ()))
        for (name, split), amount in largest
    ]
    heads = columns(repository="name", split="name", kept_files="count", bytes="bytes", share_of_bytes="share")
    heads += columns(stars="count") if known else ()
    return Table("Largest repositories", heads, rows, f"Of {description.manifest.num_repositories:,} with kept files.")


TABLES = (languages, verdicts, duplicates, sizes, licenses, edits, encodings, newlines, splits, fertility, stars, repositories)
"""In the order in which they are shown."""
