"""The plan of a build: what the sources hold, in batches that a process each reads, on disk in the work folder.

    plan = make_plan(work, sources, settings, begin)      # lists the sources; keeps finished work if they are as they were
    plan.sizes                                            # bytes of each batch

The sources are listed again by every run: that costs little beside reading them, and tells whether something has changed. Where
there is no plan yet, `begin` is told the number of every batch as soon as it can be read.
"""

import hashlib
import json
import math
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neox_code.corpus.pipeline.prefilter import Judge
from neox_code.corpus.pipeline.work_folder import (
    CLONES_FOLDER,
    PLAN_FILE,
    Settings,
    batch_file,
    decisions_folder,
    output_folder,
    part_file,
)
from neox_code.corpus.sources.batches import BatchGroup
from neox_code.corpus.sources.find import LOCAL, find_sources, home_expanded
from neox_code.corpus.sources.folder import FolderBatch
from neox_code.corpus.sources.protocol import Batch
from neox_code.files import read_json, write_json
from neox_code.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    sizes: tuple[int, ...]
    """Bytes of each batch."""
    digest: str
    """Of all that is listed."""


def canonical_arguments(sources: Sequence[str | Path]) -> list[str]:
    """The sources in one order and spelling, however they were named."""
    return sorted({LOCAL if source == LOCAL else str(home_expanded(source)) for source in sources})


def make_plan(work: Path, sources: Sequence[str], settings: Settings, begin: Callable[[int], None] = lambda index: None) -> Plan:
    """Lists the sources. Where an earlier run has found the same, its work is kept; else it is thrown away, which is logged."""
    known = read_plan(work)
    if known is not None:
        plan = list_batches(sources, settings, empty_folder(work / "plan.new"))
        if plan == known and not changed_in_place(work, plan):
            shutil.rmtree(work / "plan.new")
            return plan
        log.info("corpus: the sources have changed since the interrupted build in %s: starting anew", work)
    (work / PLAN_FILE).unlink(missing_ok=True)
    for stale in (part_file(work, 0).parent, decisions_folder(work), output_folder(work)):
        shutil.rmtree(stale, ignore_errors=True)
    folder = batch_file(work, 0).parent
    if known is None:
        plan = list_batches(sources, settings, empty_folder(folder), begin)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        (work / "plan.new").rename(folder)
    write_json(work / PLAN_FILE, asdict(plan))
    return plan


def empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def list_batches(
    sources: Sequence[str], settings: Settings, folder: Path, listed: Callable[[int], None] = lambda index: None
) -> Plan:
    """Writes every batch of the sources to the folder, and tells its number."""
    sizes: list[int] = []
    digest = hashlib.sha256()
    for source in find_sources(
        sources,
        settings.layout,
        language=settings.language,
        repository_filters=settings.recipe.repositories,
        clones=settings.clones or folder.parent / CLONES_FOLDER,
        keep_clones=settings.clones is not None,
    ):
        languages = settings.languages
        if source.languages is not None:
            languages = tuple(language for language in languages if language in source.languages)
        for batch in source.batches(Judge(settings.recipe, languages)):
            pickled = pickle.dumps(batch)
            (folder / batch_file(folder, len(sizes)).name).write_bytes(pickled)
            digest.update(hashlib.sha256(pickled).digest())
            sizes.append(batch.num_bytes)
            listed(len(sizes) - 1)
    return Plan(tuple(sizes), digest.hexdigest())


def changed_in_place(work: Path, plan: Plan) -> bool:
    """Whether a file of a folder was changed since it was listed, though its size is the same."""
    for index in range(len(plan.sizes)):
        if part_file(work, index).exists():
            listed_at = batch_file(work, index).stat().st_ctime_ns
            with batch_file(work, index).open("rb") as file:
                if any(changed_at(place) > listed_at for place in places_of(pickle.load(file))):
                    return True
    return False


def changed_at(place: str) -> float:
    try:
        return Path(place).lstat().st_ctime_ns
    except OSError:
        return math.inf


def places_of(batch: Batch) -> Iterator[str]:
    """The files of folders that a batch reads."""
    if isinstance(batch, BatchGroup):
        for member in batch.members:
            yield from places_of(member)
    elif isinstance(batch, FolderBatch):
        yield from (place for file, place in batch.files if file.reason is None)


def read_plan(work: Path) -> Plan | None:
    """The plan that an earlier run has finished; None if it has not."""
    if not (work / PLAN_FILE).exists():
        return None
    value: dict[str, Any] = read_json(work / PLAN_FILE)
    return Plan(tuple(value["sizes"]), value["digest"])


def describe(value: Any) -> Any:
    """A recipe, filter or other setting as plain JSON, in which sets are sorted: equal for equal settings in every process."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, dict):
        return {str(key): describe(member) for key, member in sorted(value.items())}
    if isinstance(value, (set, frozenset)):
        return sorted((describe(member) for member in value), key=json.dumps)
    if isinstance(value, (list, tuple)):
        return [describe(member) for member in value]
    if isinstance(value, Path):
        return str(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    named = {"name": value.name} if hasattr(value, "name") else {"class": type(value).__qualname__}
    return named | {name: describe(member) for name, member in sorted(vars(value).items()) if not name.startswith("_")}
