"""Build a corpus in four stages: plan, scan, decide, write. The stages scan and write run in many processes on any number of
machines.

    summary = build_corpus(["local"], Path("corpus"), find_recipe("mixed"), seed=1234, max_bytes=64_000_000, shares=(90, 5, 5))

Finished work stays in a work folder beside the output until the corpus is complete. Then the corpus is moved to the output. If the
build is killed, the same call resumes it. All stages keep the order of the plan, so the corpus has the same bytes for any number
of processes, any kills and any order of the source arguments.
"""

import errno
import platform
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pygments
import tokenizers

from neox_code.config.spelling import find_nearest
from neox_code.corpus.code_digest import code_digest
from neox_code.corpus.executors.stages import Executor, LocalExecutor, log_resume, run_stage
from neox_code.corpus.executors.work_folder import (
    KEY_FILE,
    clear_work,
    find_changes,
    lock_work_folder,
    read_stored_key,
    remove_work,
    work_folder,
)
from neox_code.corpus.pipeline.decide import decide_files
from neox_code.corpus.pipeline.decisions import DECISIONS_FILE, load_decisions
from neox_code.corpus.pipeline.empty_corpus import make_empty_corpus_error
from neox_code.corpus.pipeline.index import COUNTS_FILE
from neox_code.corpus.pipeline.plan import Plan, make_plan, normalize_sources, read_plan, to_plain_json
from neox_code.corpus.pipeline.scan import SCAN
from neox_code.corpus.pipeline.work_folder import (
    CLONES_FOLDER,
    FINISHED_FILE,
    REPLACED_FOLDER,
    Settings,
    get_decisions_folder,
    get_output_folder,
    save_settings,
)
from neox_code.corpus.pipeline.write import WRITE
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.recipes.registry import get_recipe_file, report_recipe_errors
from neox_code.corpus.rows.chunks import load_tokenizer
from neox_code.corpus.shards import KEPT, SPLITS, CorpusSummary, Count, Shard, is_corpus, load_summary, write_summary
from neox_code.corpus.sources.find import LOCAL
from neox_code.errors import DataError
from neox_code.files import read_json, replace_durably, sync_tree, write_json
from neox_code.logs import get_logger
from neox_code.processes.workers import count_available_cores

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
    """Build the corpus folder `output` from the sources and return its summary.

    `max_bytes` limits the corpus to a seeded sample of projects; it counts the original bytes of files. `shares` are the sizes of
    train, valid and test in any unit. `languages` is a subset of the recipe's languages. `tokenizer` is a tokenizer.json with
    which tokens are counted. `layout` is the meaning of the folders in a source, detected by default. `language` is the language
    of dataset rows that do not state one. `clones` is the folder in which clones of repositories are kept.
    An existing corpus is replaced if `overwrite` is true or an interrupted build was about to replace it.
    Without an `executor`, `workers` processes of this machine do the work, by default one per core. Raise DataError if a source
    cannot be read or no file is kept; the output is then unchanged.
    """
    output = Path(output).resolve()
    refuse_other_folders(output)
    settings = Settings(
        recipe,
        select_languages(recipe, languages),
        seed,
        max_bytes,
        dict(zip(SPLITS, shares, strict=True)),
        None if tokenizer is None else Path(tokenizer).resolve(),
        layout,
        None if language is None else select_languages(recipe, [language])[0],
        None if clones is None else Path(clones).resolve(),
    )
    arguments = normalize_sources(sources)
    work = work_folder(output)
    is_new = not work.exists()
    refuse_sources_in_output(arguments, settings, (output, work))
    for tokenizer_file in (settings.tokenizer, getattr(recipe.rows, "tokenizer", None)):
        if tokenizer_file is not None:
            load_tokenizer(tokenizer_file)
    key = make_build_key(arguments, settings)
    if read_stored_key(work, key) != key and is_corpus(output) and not overwrite:
        raise DataError(f"{output} already holds a corpus. Choose another --output, or replace it with --overwrite.")
    with explain_full_disk(work), lock_work_folder(work):
        if (work / FINISHED_FILE).exists() and read_json(work / FINISHED_FILE) == key:  # killed before the folder was removed
            move_into_place(work, output)
            return load_summary(output)
        prepare_work_folder(work, output, key, settings)
        local = LocalExecutor(workers or count_available_cores())
        with remove_new_folder_without_plan(work, is_new), local if executor is None else nullcontext(executor) as ready:
            was_planned = read_plan(work) is not None
            with report_recipe_errors(get_recipe_file(recipe), "lists the sources"):
                plan = make_plan(work, arguments, settings, *([partial(local.start_early, SCAN, work)] if ready is local else []))
            if not plan.sizes:
                refuse_empty_corpus(work, sources, (), max_bytes)
            if was_planned:
                log_build_resume(work, plan)
            run_stage(SCAN, work, plan.sizes, ready)
            with report_recipe_errors(get_recipe_file(recipe), "decides on licenses and duplicates"):
                decide_files(work, len(plan.sizes), settings)
            counts = tuple(Count(**count) for count in read_json(get_decisions_folder(work) / COUNTS_FILE))
            refuse_empty_corpus(work, sources, counts, max_bytes)
            shards = load_decisions(work).shards
            run_stage(WRITE, work, [shard.text_bytes for shard in shards], ready)
        listed = tuple(Shard(shard.name, shard.split, shard.documents) for shard in shards)
        summary = CorpusSummary(recipe.name, format_settings(arguments, settings), counts, listed)
        write_summary(get_output_folder(work), summary)
        sync_tree(get_output_folder(work))
        write_json(work / FINISHED_FILE, key)
        move_into_place(work, output)
    return summary


def refuse_other_folders(output: Path) -> None:
    if output.exists() and not is_corpus(output) and not (output.is_dir() and not any(output.iterdir())):
        raise DataError(f"{output} exists, is not a corpus, and would be replaced. Choose another --output, or remove it.")


def refuse_sources_in_output(arguments: Sequence[str], settings: Settings, folders: Sequence[Path]) -> None:
    """Raise DataError if a source or another input lies in a folder that the build replaces."""
    named = [Path(argument) for argument in arguments if argument != LOCAL]
    for path in (*named, settings.tokenizer, settings.clones, get_recipe_file(settings.recipe)):
        for folder in folders:
            if path is not None and path.resolve().is_relative_to(folder):
                raise DataError(
                    f"{path} is an input in {folder}, which the build replaces. Choose another --output, or move the input."
                )


@contextmanager
def explain_full_disk(place: Path) -> Iterator[None]:
    """Add the path `place` to an OSError that reports a full disk but no path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = error.filename or str(place)
        raise


def suggest_languages(unknown: Collection[str], known: Collection[str]) -> str:
    """Return a question that suggests known languages similar to the unknown ones; empty if none is similar.

    >>> suggest_languages(["Typescript", "Cobol"], ["C", "TypeScript"]), suggest_languages(["Cobol"], ["C"])
    ('Did you mean TypeScript? ', '')
    """
    similar = [language for name in unknown for language in find_nearest(name, known)[:1]]
    return f"Did you mean {', '.join(similar)}? " if similar else ""


def select_languages(recipe: Recipe, languages: Collection[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(languages or ()) - set(recipe.languages))
    if unknown:
        raise DataError(
            f"recipe {recipe.name} does not include the language {', '.join(unknown)}. "
            f"{suggest_languages(unknown, recipe.languages)}It includes {', '.join(recipe.languages)}."
        )
    return tuple(sorted(languages or recipe.languages))


# ---- an interrupted build


def make_build_key(arguments: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Return all values that determine the corpus, except the content of the sources. A build resumes only if they are equal."""
    own = get_recipe_file(settings.recipe)
    return {
        "sources": [describe_path_and_time(argument) for argument in arguments],
        "recipe": [to_plain_json(settings.recipe), own and own.read_text(encoding="utf-8", errors="replace")],
        "settings": {
            "languages": list(settings.languages),
            "seed": settings.seed,
            "max_bytes": settings.max_bytes,
            "shares": dict(settings.shares),
            "tokenizer": settings.tokenizer and describe_path_and_time(settings.tokenizer),
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


def describe_path_and_time(argument: str | Path) -> list[Any]:
    """Return a path and, for a file, its size in bytes and its modification time in nanoseconds."""
    path = Path(argument)
    status = path.stat() if path.is_file() else None
    return [str(argument), *((status.st_size, status.st_mtime_ns) if status else ())]


def prepare_work_folder(work: Path, output: Path, key: dict[str, Any], settings: Settings) -> None:
    """Write the build key and the settings. If the work folder belongs to another build, empty it first."""
    if not find_changes(work, key, "corpus"):
        return
    if (work / REPLACED_FOLDER).exists() and not output.exists():
        (work / REPLACED_FOLDER).replace(output)
    clear_work(work, CLONES_FOLDER)
    save_settings(work, settings)
    write_json(work / KEY_FILE, key)


@contextmanager
def remove_new_folder_without_plan(work: Path, is_new: bool) -> Iterator[None]:
    """Remove a new work folder if the sources cannot be listed."""
    try:
        yield
    except DataError:
        if is_new and work.exists() and read_plan(work) is None:
            remove_work(work)
        raise


def log_build_resume(work: Path, plan: Plan) -> None:
    stages = [(SCAN, len(plan.sizes), "batches read")]
    if (get_decisions_folder(work) / DECISIONS_FILE).exists():
        stages.append((WRITE, len(load_decisions(work).shards), "shards written"))
    log_resume("corpus", work, *stages)


def move_into_place(work: Path, output: Path) -> None:
    """Move the finished corpus to the output, and remove the work folder with the corpus that it replaces."""
    if get_output_folder(work).exists():
        if output.exists():
            shutil.rmtree(work / REPLACED_FOLDER, ignore_errors=True)
            output.replace(work / REPLACED_FOLDER)
        replace_durably(get_output_folder(work), output)
    remove_work(work)


def refuse_empty_corpus(work: Path, sources: Sequence[str], counts: Sequence[Count], max_bytes: int | None) -> None:
    if not any(count.verdict == KEPT for count in counts):
        remove_work(work)
        raise make_empty_corpus_error(sources, counts, max_bytes)


# ---- the summary


def format_settings(arguments: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Return the settings of the build as plain JSON for corpus.json."""
    recipe = settings.recipe
    return {
        "sources": list(arguments),
        "languages": list(settings.languages),
        "language_rule": recipe.language_rule.name,
        "filters": [to_plain_json(rule) for rule in (*recipe.before_reading, *recipe.after_reading)],
        "repositories": to_plain_json(recipe.repositories),
        "licenses": to_plain_json(recipe.licenses),
        "duplicates": to_plain_json(recipe.duplicates),
        "decoding": recipe.decoding,
        "newlines": recipe.newlines,
        "divide_large_projects": recipe.divide_large_projects,
        "rows": to_plain_json(recipe.rows),
        "seed": settings.seed,
        "max_bytes": settings.max_bytes,
        "shares": dict(settings.shares),
        "layout": settings.layout,
        "language": settings.language,
        "tokenizer": None if settings.tokenizer is None else str(settings.tokenizer),
        "pygments": pygments.__version__,
    }
