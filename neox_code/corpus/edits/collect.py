"""Collect next-edit rows from the histories of repositories, with a recipe's filters and licenses, and splits by repository.

    counts = collect_edits(find_repositories(["~/repositories"]), Path("edits"), EditSettings(recipe=find_recipe("strict")))

OUTPUT/train.jsonl, valid.jsonl and test.jsonl have one row an edit: prompt, before, cursor, after, path, language, repository,
commit, license. A repository is in one split. OUTPUT/edits.json has the counts of all rows and of everything that was left out, by
reason. Finished repositories stay in OUTPUT.work until the end, so that the same command resumes.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from neox_code.corpus.edits.history import UNREADABLE_FILE, FileChange, HistoryLimits, read_changes
from neox_code.corpus.edits.next_edits import split_into_edits
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.languages.text_encoding import detect_and_decode
from neox_code.corpus.licenses.folder_licenses import FolderLicenses, make_unread_statement, read_statement, states_license
from neox_code.corpus.licenses.license import find_source_license
from neox_code.corpus.pipeline.prefilter import LARGEST_STATEMENT, NO_LANGUAGE, Prefilter, apply_edit, apply_filter
from neox_code.corpus.pipeline.split import assign_splits
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.sources.find import choose_source_name, expand_home
from neox_code.corpus.sources.folder_layout import is_git_repository
from neox_code.corpus.sources.git import GitSource, UnreadableRepository, find_head
from neox_code.corpus.sources.protocol import Project
from neox_code.corpus.sources.source_names import make_names_unique
from neox_code.errors import ConfigError, DataError
from neox_code.files import read_json, read_json_lines, write_json, write_json_lines
from neox_code.logs import progress
from neox_code.processes.workers import Workers

DEEPEST_FOLDER = 3
UNCHANGED = "no change after the recipe's edits"
DUPLICATE = "duplicate row"
NOT_READ = "repository cannot be read"
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class EditSettings:
    recipe: Recipe
    languages: tuple[str, ...] = ()
    """Languages of the rows; () for all of the recipe."""
    shares: Mapping[str, float] = field(default_factory=lambda: {"train": 90, "valid": 5, "test": 5})
    seed: int = 1234
    limits: HistoryLimits = field(default_factory=HistoryLimits)


def find_repositories(arguments: Sequence[str | Path]) -> dict[str, Path]:
    """Return name -> folder of the git repositories that are named, or are in named folders. Raise DataError if one has none."""
    found: list[Path] = []
    for argument in arguments:
        folder = expand_home(argument)
        own = list(walk_repositories(folder, DEEPEST_FOLDER)) if folder.is_dir() else []
        if not own:
            raise DataError(f"source {argument} has no git repository. Name a repository, or a folder of repositories.")
        found += own
    paths = sorted(set(found))
    names = make_names_unique({path: choose_source_name(path) for path in paths})
    return {names[path]: path for path in sorted(paths, key=names.__getitem__)}


def walk_repositories(folder: Path, depth: int) -> Iterator[Path]:
    if is_git_repository(folder):
        yield folder
    elif depth:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from walk_repositories(inner, depth - 1)


def collect_edits(repositories: Mapping[str, Path], output: Path, settings: EditSettings, workers: int = 1) -> dict[str, Any]:
    """Write the rows of all repositories into the new folder `output`; return the content of edits.json.

    Raise ConfigError if `output` exists, or the unfinished work belongs to other settings.
    """
    work = output.with_name(f"{output.name}.work")
    prepare(output, work, repositories, settings)
    names = list(repositories)
    waiting = [number for number in range(len(names)) if not (work / f"{number}.json").exists()]
    with (
        Workers(workers) as pool,
        progress("repositories", len(names), "repositories", done=len(names) - len(waiting)) as advance,
    ):
        tasks = [(names[number], repositories[names[number]], work / str(number), settings) for number in waiting]
        for _ in pool.run(collect_repository, tasks):
            advance(1)
    counts: Counter[str] = Counter()
    sizes: dict[str, dict[str, int]] = {}
    for number, name in enumerate(names):
        summary = read_json(work / f"{number}.json")
        counts.update(summary["left_out"])
        sizes[name] = summary["bytes"]
    splits = assign_splits({name: size for name, size in sizes.items() if size}, settings.shares, settings.seed)
    summary = write_splits(names, work, splits, counts)
    work.rename(output)
    for path in output.iterdir():
        if path.stem.isdecimal() or path.name == "settings.json":
            path.unlink()
    return summary


def prepare(output: Path, work: Path, repositories: Mapping[str, Path], settings: EditSettings) -> None:
    """Make the folder of unfinished work, or check that it belongs to the same command."""
    if output.exists():
        raise ConfigError(f"{output} exists already. Name a new folder.")
    heads = {}
    for name, path in repositories.items():
        try:
            heads[name] = find_head(path)[1]
        except UnreadableRepository as error:
            heads[name] = str(error)
    described = asdict(settings) | {"recipe": repr(settings.recipe), "repositories": heads}
    own = json.loads(json.dumps(described))
    place = work / "settings.json"
    if place.exists() and read_json(place) != own:
        raise ConfigError(f"{work} belongs to other options or repositories. Repeat those, or remove it to begin again.")
    work.mkdir(parents=True, exist_ok=True)
    write_json(place, own)


def collect_repository(name: str, path: Path, place: Path, settings: EditSettings) -> Iterator[None]:
    """Write PLACE.jsonl with the rows of a repository, then PLACE.json with its counts."""
    left_out: Counter[str] = Counter()
    sizes: Counter[str] = Counter()

    def make_rows() -> Iterator[dict[str, Any]]:
        try:
            for row in read_rows(Project(name), path, settings):
                if isinstance(row, str):
                    left_out[row] += 1
                else:
                    sizes[row["language"]] += len(row["after"])
                    yield row
        except UnreadableRepository as error:
            left_out[f"{NOT_READ}: {error}"] += 1

    write_json_lines(place.with_name(f"{place.name}.jsonl"), make_rows())
    write_json(place.with_name(f"{place.name}.json"), {"left_out": left_out, "bytes": sizes})
    yield None


def read_rows(project: Project, path: Path, settings: EditSettings) -> Iterator[dict[str, Any] | str]:
    """Yield the rows of a repository, and the reason for each commit, file or edit that gives none."""
    recipe = settings.recipe
    prefilter = Prefilter(recipe, settings.languages or recipe.languages)
    licenses = read_licenses(project, path)

    def wants(file: str) -> str | None:
        return NO_LANGUAGE if states_license(file) else prefilter(project, file, 1)

    for change in read_changes(path, wants, settings.limits):
        if isinstance(change, str):
            yield change
            continue
        found = prepare_texts(project, change, settings)
        if isinstance(found, str):
            yield found
            continue
        language, before, after, own_license = found
        license = own_license or licenses.find(change.path, None).expression
        if recipe.licenses is not None and (reason := recipe.licenses.find_drop_reason(license)):
            yield reason
            continue
        place = {"path": change.path, "language": language, "repository": project.name, "commit": change.commit, "license": license}
        for edit in split_into_edits(before, after, change.path):
            yield edit if isinstance(edit, str) else {**asdict(edit), **place}


def prepare_texts(project: Project, change: FileChange, settings: EditSettings) -> tuple[str, str, str, str | None] | str:
    """Return language, both texts as the recipe edits them, and the license that the file states; or the drop reason."""
    recipe, texts, license = settings.recipe, [], None
    languages = settings.languages or recipe.languages
    for content in (change.before, change.after):
        text, _ = detect_and_decode(content)
        if text is None:
            return UNREADABLE_FILE
        rule = recipe.language_rule
        names = rule.find_languages_by_name(project, change.path)
        possible = rule.find_languages_by_content(project, change.path, text, names) if names != () else ()
        language = next((language for language in possible if language in languages), None)
        if language is None:
            return NO_LANGUAGE
        candidate = Candidate(change.path, language, len(content), text)
        if recipe.newlines == "lf":
            candidate.text = text.replace("\r\n", "\n").replace("\r", "\n")
        license = find_source_license(change.path, text)
        steps: tuple[Any, ...] = (*recipe.before_reading, *recipe.after_reading)
        for step in steps:
            if not hasattr(step, "keep"):
                candidate.text = apply_edit(step, candidate)
            elif reason := apply_filter(step, candidate):
                return reason
        texts.append(candidate.text)
    return UNCHANGED if texts[0] == texts[1] else (language or "", texts[0], texts[1], license)


def read_licenses(project: Project, path: Path) -> FolderLicenses:
    """Return the licenses that the files of the commit at HEAD state."""
    licenses = FolderLicenses()

    def check(_: Project, file: str, num_bytes: int) -> str | None:
        return None if states_license(file) and num_bytes <= LARGEST_STATEMENT else NO_LANGUAGE

    for batch in GitSource(project, path).batches(check):
        for file, _ in batch.read():
            if not states_license(file.path):
                continue
            text = detect_and_decode(file.content)[0] if file.content is not None else None
            statement = read_statement(file.path, text) if text is not None else make_unread_statement(file.path, file.link)
            if statement is not None:
                licenses.add(file.path, statement)
    return licenses


def write_splits(names: Sequence[str], work: Path, splits: Mapping[str, str], counts: Counter[str]) -> dict[str, Any]:
    """Write the rows of each split without duplicates, and edits.json; return its content."""
    known: set[bytes] = set()
    rows: Counter[str] = Counter()
    by: dict[str, Counter[str]] = defaultdict(Counter)

    def select(split: str) -> Iterator[dict[str, Any]]:
        for number, name in enumerate(names):
            if splits.get(name) != split:
                continue
            for row in read_json_lines(work / f"{number}.jsonl"):
                key = xxhash.xxh3_128_digest(json.dumps([row["before"], row["after"]]).encode("utf-8", "surrogatepass"))
                if key in known:
                    counts[DUPLICATE] += 1
                    continue
                known.add(key)
                rows[split] += 1
                for column in ("language", "license"):
                    by[column][str(row[column])] += 1
                yield row

    for split in ("test", "valid", "train"):  # a row that is held out is not trained on
        write_json_lines(work / f"{split}.jsonl", select(split))
    summary = {
        "rows": {split: rows[split] for split in SPLITS},
        **{f"by_{column}": dict(count.most_common()) for column, count in by.items()},
        "left_out": dict(counts.most_common()),
        "repositories": dict(splits),
    }
    write_json(work / "edits.json", summary)
    return summary
