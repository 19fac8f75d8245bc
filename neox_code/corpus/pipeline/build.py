"""Builds a corpus: plan, scan, decide, write. The second and the fourth stage run in many processes, on one machine or several.

    summary = build_corpus(["local"], Path("corpus"), recipe_by_name("mixed"), seed=1234, max_bytes=64_000_000, shares=(90, 5, 5))

All that is done lies in a work folder beside the output until the corpus is whole and takes its name: a build that is killed at
any moment is gone on with by the same call. The order of the plan is the order of everything, so the corpus is the same to the
byte for any number of processes, any kills, and sources named in any order.
"""

import errno
import platform
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pygments
import tokenizers

from neox_code.config.spelling import nearest
from neox_code.corpus.code_digest import code_digest
from neox_code.corpus.executors.stages import Executor, LocalExecutor, log_resume, run_stage
from neox_code.corpus.executors.work_folder import (
    KEY_FILE,
    clear_work,
    find_changes,
    lock_work_folder,
    read_key,
    remove_work,
    work_folder,
)
from neox_code.corpus.pipeline.decide import decide
from neox_code.corpus.pipeline.decisions import DECISIONS_FILE, load_decisions
from neox_code.corpus.pipeline.empty_corpus import nothing_kept
from neox_code.corpus.pipeline.index import COUNTS_FILE
from neox_code.corpus.pipeline.plan import Plan, canonical_arguments, describe, make_plan, read_plan
from neox_code.corpus.pipeline.scan import SCAN
from neox_code.corpus.pipeline.work_folder import (
    CLONES_FOLDER,
    FINISHED_FILE,
    REPLACED_FOLDER,
    Settings,
    decisions_folder,
    output_folder,
    save_settings,
)
from neox_code.corpus.pipeline.write import WRITE
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.recipes.registry import errors_of_recipe, recipe_file
from neox_code.corpus.rows.chunks import load_tokenizer
from neox_code.corpus.shards import KEPT, SPLITS, CorpusSummary, Count, Shard, is_corpus, load_summary, write_summary
from neox_code.corpus.sources.find import LOCAL
from neox_code.errors import DataError
from neox_code.files import read_json, replace_durably, sync_tree, write_json
from neox_code.logs import get_logger
from neox_code.processes.workers import available_cores

POLYCODER_SHARES = (98.9, 0.1, 1.0)

log = get_logger(__name__)


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
    tokenizer: Path | None = None,
    layout: str | None = None,
    language: str | None = None,
    clones: Path | None = None,
    executor: Executor | None = None,
    overwrite: bool = True,
) -> CorpusSummary:
    """Makes the corpus folder `output` of what the sources hold, and returns its summary.

    `max_bytes` limits it to a seeded sample of projects (bytes of files as found), `shares` are the parts of train, valid and
    test in any unit, `languages` are chosen among the recipe's, `tokenizer` is a tokenizer.json to count tokens with, `layout`
    says what the folders of sources are where they do not look like it, `language` is that of rows of datasets that name none,
    `clones` is where clones of repositories are kept.
    A corpus that is there is replaced, without `overwrite` only where an interrupted build was to.
    Without an `executor` it works in as many processes of this machine as `workers` says, one per core by default. Raises
    DataError for sources that cannot be read or hold nothing to keep; the output is then as it was.
    """
    output = Path(output).resolve()
    refuse_other_folders(output)
    settings = Settings(
        recipe,
        chosen_languages(recipe, languages),
        seed,
        max_bytes,
        dict(zip(SPLITS, shares, strict=True)),
        None if tokenizer is None else Path(tokenizer).resolve(),
        layout,
        None if language is None else chosen_languages(recipe, [language])[0],
        None if clones is None else Path(clones).resolve(),
    )
    arguments = canonical_arguments(sources)
    work = work_folder(output)
    is_new = not work.exists()
    refuse_what_would_be_lost(arguments, settings, (output, work))
    for tokenizer_file in (settings.tokenizer, getattr(recipe.rows, "tokenizer", None)):
        if tokenizer_file is not None:
            load_tokenizer(tokenizer_file)
    key = build_key(arguments, settings)
    if read_key(work, key) != key and is_corpus(output) and not overwrite:
        raise DataError(f"{output} already holds a corpus. Choose another --output, or replace it with --overwrite.")
    with said_where(work), lock_work_folder(work):
        if was_finished(work, key):
            move_into_place(work, output)
            return load_summary(output)
        prepare_work_folder(work, output, key, settings)
        local = LocalExecutor(workers or available_cores())
        with gone_without_plan(work, is_new), local if executor is None else nullcontext(executor) as ready:
            was_planned = read_plan(work) is not None
            with errors_of_recipe(recipe_file(recipe), "lists the sources"):
                plan = make_plan(work, arguments, settings, *([partial(local.start_early, SCAN, work)] if ready is local else []))
            if not plan.sizes:
                refuse_nothing(work, sources, (), max_bytes)
            if was_planned:
                log_build_resume(work, plan)
            run_stage(SCAN, work, plan.sizes, ready)
            with errors_of_recipe(recipe_file(recipe), "decides on licenses and duplicates"):
                decide(work, len(plan.sizes), settings)
            counts = read_counts(work)
            refuse_nothing(work, sources, counts, max_bytes)
            shards = load_decisions(work).shards
            run_stage(WRITE, work, [shard.text_bytes for shard in shards], ready)
        listed = tuple(Shard(shard.name, shard.split, shard.documents) for shard in shards)
        summary = CorpusSummary(recipe.name, described_settings(arguments, settings), counts, listed)
        write_summary(output_folder(work), summary)
        sync_tree(output_folder(work))
        write_json(work / FINISHED_FILE, key)
        move_into_place(work, output)
    return summary


def refuse_other_folders(output: Path) -> None:
    if output.exists() and not is_corpus(output) and not (output.is_dir() and not any(output.iterdir())):
        raise DataError(f"{output} exists and is not a corpus; it would be replaced. Choose another --output, or remove it.")


def refuse_what_would_be_lost(arguments: Sequence[str], settings: Settings, folders: Sequence[Path]) -> None:
    """Raises DataError for what is to be read out of folders that are to be replaced."""
    named = [Path(argument) for argument in arguments if argument != LOCAL]
    for path in (*named, settings.tokenizer, settings.clones, recipe_file(settings.recipe)):
        for folder in folders:
            if path is not None and path.resolve().is_relative_to(folder):
                raise DataError(f"{path} lies in {folder}, which is replaced. Choose another --output, or move it elsewhere.")


@contextmanager
def said_where(place: Path) -> Iterator[None]:
    """What says that a disk is full says which."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = error.filename or str(place)
        raise


def did_you_mean_languages(unknown: Collection[str], known: Collection[str]) -> str:
    """The question about languages that are like others.

    >>> did_you_mean_languages(["Typescript", "Cobol"], ["C", "TypeScript"]), did_you_mean_languages(["Cobol"], ["C"])
    ('Did you mean TypeScript? ', '')
    """
    similar = [language for name in unknown for language in nearest(name, known)[:1]]
    return f"Did you mean {', '.join(similar)}? " if similar else ""


def chosen_languages(recipe: Recipe, languages: Collection[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(languages or ()) - set(recipe.languages))
    if unknown:
        raise DataError(
            f"recipe {recipe.name} does not take the language {', '.join(unknown)}. "
            f"{did_you_mean_languages(unknown, recipe.languages)}It takes {', '.join(recipe.languages)}."
        )
    return tuple(sorted(languages or recipe.languages))


# ---- an interrupted build


def build_key(arguments: Sequence[str], settings: Settings) -> dict[str, Any]:
    """What decides the corpus, apart from what the sources hold."""
    own = recipe_file(settings.recipe)
    return {
        "sources": [path_and_time(argument) for argument in arguments],
        "recipe": [describe(settings.recipe), own and own.read_text(encoding="utf-8", errors="replace")],
        "settings": {
            "languages": list(settings.languages),
            "seed": settings.seed,
            "max_bytes": settings.max_bytes,
            "shares": dict(settings.shares),
            "tokenizer": settings.tokenizer and path_and_time(settings.tokenizer),
            "layout": settings.layout,
            "language": settings.language,
        },
        "versions": {
            "python": platform.python_version(),
            "pyarrow": pyarrow.__version__,
            "pygments": pygments.__version__,
            "tokenizers": tokenizers.__version__,
            "neox_code": code_digest(),
        },
    }


def path_and_time(argument: str | Path) -> list[Any]:
    """A path, of a file with its size and time."""
    path = Path(argument)
    status = path.stat() if path.is_file() else None
    return [str(argument), *((status.st_size, status.st_mtime_ns) if status else ())]


def was_finished(work: Path, key: Mapping[str, Any]) -> bool:
    """Whether an earlier run was killed when the corpus was whole, and not yet called by its name or rid of the work folder."""
    return (work / FINISHED_FILE).exists() and read_json(work / FINISHED_FILE) == key


def prepare_work_folder(work: Path, output: Path, key: dict[str, Any], settings: Settings) -> None:
    """Empty the work folder if another build left it, and write the key and the settings; the same build resumes."""
    if not find_changes(work, key, "corpus"):
        return
    if (work / REPLACED_FOLDER).exists() and not output.exists():
        (work / REPLACED_FOLDER).replace(output)
    clear_work(work, CLONES_FOLDER)
    save_settings(work, settings)
    write_json(work / KEY_FILE, key)


@contextmanager
def gone_without_plan(work: Path, is_new: bool) -> Iterator[None]:
    """A work folder that is new does not stay where the sources cannot be listed."""
    try:
        yield
    except DataError:
        if is_new and work.exists() and read_plan(work) is None:
            remove_work(work)
        raise


def log_build_resume(work: Path, plan: Plan) -> None:
    stages = [(SCAN, len(plan.sizes), "batches read")]
    if (decisions_folder(work) / DECISIONS_FILE).exists():
        stages.append((WRITE, len(load_decisions(work).shards), "shards written"))
    log_resume("corpus", work, *stages)


def move_into_place(work: Path, output: Path) -> None:
    """Gives the finished corpus its name, and removes the work folder, with what was called by it before."""
    if output_folder(work).exists():
        if output.exists():
            shutil.rmtree(work / REPLACED_FOLDER, ignore_errors=True)
            output.replace(work / REPLACED_FOLDER)
        replace_durably(output_folder(work), output)
    remove_work(work)


def refuse_nothing(work: Path, sources: Sequence[str], counts: Sequence[Count], max_bytes: int | None) -> None:
    if not any(count.verdict == KEPT for count in counts):
        remove_work(work)
        raise nothing_kept(sources, counts, max_bytes)


# ---- the summary


def read_counts(work: Path) -> tuple[Count, ...]:
    return tuple(Count(**count) for count in read_json(decisions_folder(work) / COUNTS_FILE))


def described_settings(arguments: Sequence[str], settings: Settings) -> dict[str, Any]:
    recipe = settings.recipe
    return {
        "sources": list(arguments),
        "languages": list(settings.languages),
        "language_rule": recipe.language_rule.name,
        "filters": [describe(rule) for rule in (*recipe.before_reading, *recipe.after_reading)],
        "repositories": describe(recipe.repositories),
        "licenses": describe(recipe.licenses),
        "duplicates": describe(recipe.duplicates),
        "decoding": recipe.decoding,
        "newlines": recipe.newlines,
        "divide_large_projects": recipe.divide_large_projects,
        "rows": describe(recipe.rows),
        "seed": settings.seed,
        "max_bytes": settings.max_bytes,
        "shares": dict(settings.shares),
        "layout": settings.layout,
        "language": settings.language,
        "tokenizer": None if settings.tokenizer is None else str(settings.tokenizer),
        "pygments": pygments.__version__,
    }
