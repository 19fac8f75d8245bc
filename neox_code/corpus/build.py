"""Builds a corpus: read and filter in many processes, decide on the whole, write.

    summary = build_corpus(["local"], Path("corpus"), POLYCODER, seed=1234, max_bytes=64_000_000, shares=(90, 5, 5))

The order of the decisions: the language of ambiguous names, exact duplicates, division of large projects, the sample, the
split. They see names, hashes and sizes only, sorted, so the corpus is the same to the byte for any number of workers.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pygments

from neox_code.corpus.dedup_exact import survivors
from neox_code.corpus.extract import find_sources
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.language import LANGUAGES, settle
from neox_code.corpus.projects import common_folder, large_projects, sample_projects, subproject
from neox_code.corpus.recipes import Recipe
from neox_code.corpus.scan import FILES_AT_ONCE, NOT_CHOSEN, Judge, ScannedFile, Spilled, filter_texts, scan_batch
from neox_code.corpus.shards import (
    KEPT,
    SPLITS,
    CorpusSummary,
    Count,
    Document,
    is_corpus,
    write_documents,
    write_manifest,
    write_summary,
)
from neox_code.corpus.split import assign_splits
from neox_code.corpus.workers import Workers, available_cores
from neox_code.errors import DataError
from neox_code.files import atomic_folder
from neox_code.logs import progress

POLYCODER_SHARES = (98.9, 0.1, 1.0)
DUPLICATE = "exact duplicate"
LEFT_ASIDE = "left aside"


@dataclass(slots=True)
class Verdict:
    """A scanned file and what is decided about it."""

    file: ScannedFile
    repository: str
    path: str
    language: str | None = None
    reason: str | None = None
    """Why it is dropped; None if it is kept."""
    split: str | None = None


def build_corpus(
    sources: Sequence[str],
    output: str | Path,
    recipe: Recipe,
    *,
    seed: int,
    max_bytes: int | None = None,
    shares: Sequence[float] = POLYCODER_SHARES,
    languages: Collection[str] | None = None,
    workers: int | None = None,
) -> CorpusSummary:
    """Makes the corpus folder `output` of what the sources hold, replacing a corpus that is there, and returns its summary.

    `max_bytes` limits it to a seeded sample of projects (bytes of files as found), `shares` are the parts of train, valid and
    test in any unit, `languages` are chosen among the recipe's, `workers` defaults to the number of cores. Raises DataError
    for sources that cannot be read or hold nothing to keep; the output is then as it was.
    """
    output = Path(output)
    refuse_other_folders(output)
    chosen = chosen_languages(recipe, languages)
    settings = {
        "sources": [str(source) for source in sources],
        "languages": sorted(chosen),
        "filters": [{"name": rule.name} | dataclasses.asdict(rule) for rule in (*recipe.before_reading, *recipe.after_reading)],
        "seed": seed,
        "max_bytes": max_bytes,
        "shares": dict(zip(SPLITS, shares, strict=True)),
        "pygments": pygments.__version__,
    }
    with atomic_folder(output) as folder:
        with TemporaryDirectory(dir=folder) as spill, Workers(workers or available_cores()) as pool:
            files = scan(pool, sources, recipe, chosen, Path(spill))
            settle_languages(pool, files, recipe, chosen)
            drop_duplicates(files)
            divide_projects(files)
            leave_aside(files, max_bytes, seed)
            split_projects(files, settings["shares"], seed)
            if all(file.reason for file in files):
                raise DataError(nothing_kept(sources, files, max_bytes))
            shards = write_documents(folder, documents(files))
        write_manifest(folder, map(manifest_row, files))
        summary = CorpusSummary(recipe.name, settings, count_files(files), shards)
        write_summary(folder, summary)
    return summary


def refuse_other_folders(output: Path) -> None:
    if output.exists() and not is_corpus(output) and not (output.is_dir() and not any(output.iterdir())):
        raise DataError(f"{output} exists and is not a corpus; it would be replaced. Choose another --output, or remove it.")


def chosen_languages(recipe: Recipe, languages: Collection[str] | None) -> frozenset[str]:
    unknown = sorted(set(languages or ()) - set(recipe.languages))
    if unknown:
        raise DataError(
            f"recipe {recipe.name} does not know the language {', '.join(unknown)}. It knows {', '.join(recipe.languages)}."
        )
    return frozenset(languages or recipe.languages)


def scan(pool: Workers, sources: Sequence[str], recipe: Recipe, languages: frozenset[str], spill: Path) -> list[Verdict]:
    """Every file of the sources, read and filtered, in the order of project and path."""
    batches = [
        batch
        for source in find_sources(sources)
        for batch in source.batches(Judge(recipe.before_reading, languages & (source.languages or languages)))
    ]
    tasks = [(batch, recipe, spill / f"{index:06d}") for index, batch in enumerate(batches)]
    files: list[ScannedFile] = []
    with progress("corpus", total=sum(batch.num_bytes for batch in batches), unit="B") as advance:
        for _, (group, done) in pool.run(scan_batch, tasks):
            files += group
            advance(done)
    files.sort(key=lambda file: (file.project, file.path, file.sha256 or b""))
    return [Verdict(file, file.project, file.path, reason=file.reason) for file in files]


def settle_languages(pool: Workers, verdicts: Sequence[Verdict], recipe: Recipe, languages: frozenset[str]) -> None:
    """Gives every file its language; those that could be in several now pass the recipe's filters by content, too."""
    by_name: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        if len(verdict.file.languages) == 1:
            by_name[verdict.file.project].update(verdict.file.languages)
    for verdict in verdicts:
        verdict.language = settle(verdict.file.languages, by_name[verdict.file.project])
        if verdict.reason is None and verdict.language not in languages:
            verdict.reason = NOT_CHOSEN
    filter_settled(pool, [verdict for verdict in kept(verdicts) if len(verdict.file.languages) > 1], recipe)


def filter_settled(pool: Workers, unfiltered: Sequence[Verdict], recipe: Recipe) -> None:
    if not unfiltered:
        return
    groups = [unfiltered[start : start + FILES_AT_ONCE] for start in range(0, len(unfiltered), FILES_AT_ONCE)]
    with progress("headers", total=len(unfiltered), unit="files") as advance:
        for index, reasons in pool.run(
            filter_texts, [([text_to_filter(verdict) for verdict in group], recipe) for group in groups]
        ):
            for verdict, reason in zip(groups[index], reasons, strict=True):
                verdict.reason = reason
            advance(len(reasons))


def text_to_filter(verdict: Verdict) -> tuple[Spilled, Candidate]:
    return verdict.file.text, Candidate(verdict.path, verdict.language, verdict.file.num_bytes)


def kept(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    return (verdict for verdict in verdicts if verdict.reason is None)


def drop_duplicates(verdicts: Sequence[Verdict]) -> None:
    first = survivors((verdict.file.sha256, index) for index, verdict in enumerate(verdicts) if verdict.reason is None)
    for index, verdict in enumerate(verdicts):
        if verdict.reason is None and first[verdict.file.sha256] != index:
            verdict.reason = DUPLICATE


def divide_projects(verdicts: Sequence[Verdict]) -> None:
    """Gives the files of every large project the part of it that they belong to as their repository."""
    large = large_projects(kept_sizes(verdicts))
    paths = defaultdict(list)
    for verdict in kept(verdicts):
        paths[verdict.repository].append(verdict.path)
    folders = {project: common_folder(paths[project]) for project in large}
    for verdict in verdicts:
        if verdict.repository in folders:
            verdict.repository, verdict.path = subproject(verdict.repository, verdict.path, folders[verdict.repository])


def leave_aside(verdicts: Sequence[Verdict], max_bytes: int | None, seed: int) -> None:
    taken = sample_projects(kept_sizes(verdicts), max_bytes, seed)
    for verdict in kept(verdicts):
        if verdict.repository not in taken:
            verdict.reason = LEFT_ASIDE


def split_projects(verdicts: Sequence[Verdict], shares: Mapping[str, float], seed: int) -> None:
    splits = assign_splits(kept_sizes(verdicts), shares, seed)
    for verdict in kept(verdicts):
        verdict.split = splits[verdict.repository]


def kept_sizes(verdicts: Iterable[Verdict]) -> dict[str, Counter[str]]:
    """Bytes by language of each repository, among the files not dropped."""
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in kept(verdicts):
        sizes[verdict.repository][verdict.language] += verdict.file.num_bytes
    return sizes


def documents(verdicts: Iterable[Verdict]) -> Iterator[Document]:
    """The kept files with their texts, which are read from where they wait."""
    total = sum(verdict.file.num_bytes for verdict in verdicts if verdict.reason is None)
    with progress("shards", total=total, unit="B") as advance:
        for verdict in kept(verdicts):
            file = verdict.file
            yield Document(
                text=file.text.text(),
                language=verdict.language,
                repository=verdict.repository,
                path=verdict.path,
                sha256=file.sha256.hex(),
                num_bytes=file.text.num_bytes,
                split=verdict.split,
                commit=file.commit,
            )
            advance(file.num_bytes)


def manifest_row(verdict: Verdict) -> dict[str, Any]:
    file = verdict.file
    return {
        "repository": verdict.repository,
        "path": verdict.path,
        "language": verdict.language,
        "bytes": file.num_bytes,
        "sha256": file.sha256.hex() if file.sha256 else None,
        "verdict": verdict.reason or KEPT,
        "split": verdict.split,
        "decoding_errors": file.decoding_errors,
    }


def count_files(verdicts: Iterable[Verdict]) -> tuple[Count, ...]:
    cells: dict[tuple[str | None, str, str | None], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        cells[verdict.language, verdict.reason or KEPT, verdict.split].append(verdict)
    return tuple(
        Count(
            *cell,
            files=len(members),
            bytes=sum(verdict.file.num_bytes for verdict in members),
            projects=len({verdict.repository for verdict in members}),
            decoding_errors=sum(verdict.file.decoding_errors for verdict in members),
        )
        for cell, members in sorted(cells.items(), key=lambda item: tuple(str(part or "") for part in item[0]))
    )


def nothing_kept(sources: Sequence[str], verdicts: Sequence[Verdict], max_bytes: int | None) -> str:
    """The sentence for a corpus that would be empty: what was found instead, and the remedy."""
    reasons = Counter(verdict.reason for verdict in verdicts)
    found = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()) or "no files"
    remedy = f"Name folders, git repositories or archives with source code in {', '.join(LANGUAGES)}."
    if reasons[LEFT_ASIDE]:
        remedy = f"No whole project fits into the limit of {max_bytes:,} bytes: raise it."
    return f"nothing in {', '.join(map(str, sources))} can be kept; found: {found}. {remedy}"
