"""The plan of a build: the files of all sources, grouped in batches. The work folder stores it; one process reads a batch.

    plan = make_plan(work, sources, settings, begin)      # lists the sources; keeps finished work if the list is unchanged
    plan.sizes                                            # bytes of each batch

Every run lists the sources again to detect changes; this takes much less time than reading the files. If there is no plan yet,
`begin` is called with the number of each batch as soon as the batch can be read.
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

from neox_code.corpus.pipeline.prefilter import Prefilter
from neox_code.corpus.pipeline.work_folder import (
    CLONES_FOLDER,
    PLAN_FILE,
    Settings,
    get_batch_path,
    get_decisions_folder,
    get_output_folder,
    get_scan_result_path,
)
from neox_code.corpus.sources.batches import BatchGroup
from neox_code.corpus.sources.find import LOCAL, Options, expand_home, find_sources
from neox_code.corpus.sources.folder import FolderBatch, FolderSource
from neox_code.corpus.sources.protocol import Batch
from neox_code.files import read_json, write_json
from neox_code.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    sizes: tuple[int, ...]
    """The bytes of each batch."""
    digest: str
    """A hash of all listed files."""


def normalize_sources(sources: Sequence[str | Path]) -> list[str]:
    """Return the sources as sorted absolute paths, so that equal sources compare equal."""
    return sorted({LOCAL if source == LOCAL else str(expand_home(source)) for source in sources})


def make_plan(work: Path, sources: Sequence[str], settings: Settings, begin: Callable[[int], None] = lambda index: None) -> Plan:
    """List the sources. If an earlier run has listed other files, log this and remove its work; else keep its work."""
    known = read_plan(work)
    if known is not None:
        plan = list_batches(sources, settings, clear_folder(work / "plan.new"))
        if plan == known and not has_changed_files(work, plan):
            shutil.rmtree(work / "plan.new")
            return plan
        log.info("corpus: the sources have changed since the interrupted build in %s: starting from the beginning", work)
    (work / PLAN_FILE).unlink(missing_ok=True)
    for stale in (get_scan_result_path(work, 0).parent, get_decisions_folder(work), get_output_folder(work)):
        shutil.rmtree(stale, ignore_errors=True)
    folder = get_batch_path(work, 0).parent
    if known is None:
        plan = list_batches(sources, settings, clear_folder(folder), begin)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        (work / "plan.new").rename(folder)
    write_json(work / PLAN_FILE, asdict(plan))
    return plan


def clear_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def list_batches(
    sources: Sequence[str], settings: Settings, folder: Path, listed: Callable[[int], None] = lambda index: None
) -> Plan:
    """Write every batch of the sources to the folder, and call `listed` with its number."""
    sizes: list[int] = []
    digest = hashlib.sha256()
    options = Options(
        settings.layout,
        settings.language,
        settings.recipe.repositories,
        clones=settings.clones or folder.parent / CLONES_FOLDER,
        keep_clones=settings.clones is not None,
    )
    for source in find_sources(sources, options):
        languages = settings.languages
        if isinstance(source, FolderSource) and source.languages is not None:
            languages = tuple(language for language in languages if language in source.languages)
        for batch in source.batches(Prefilter(settings.recipe, languages)):
            pickled = pickle.dumps(batch)
            (folder / get_batch_path(folder, len(sizes)).name).write_bytes(pickled)
            digest.update(hashlib.sha256(pickled).digest())
            sizes.append(batch.num_bytes)
            listed(len(sizes) - 1)
    return Plan(tuple(sizes), digest.hexdigest())


def has_changed_files(work: Path, plan: Plan) -> bool:
    """Return True if a scanned file in a folder has changed since it was listed, even if its size is the same."""
    for index in range(len(plan.sizes)):
        if get_scan_result_path(work, index).exists():
            listed_at = get_batch_path(work, index).stat().st_ctime_ns
            with get_batch_path(work, index).open("rb") as file:
                if any(read_change_time(place) > listed_at for place in list_paths_of_batch(pickle.load(file))):
                    return True
    return False


def read_change_time(place: str) -> float:
    try:
        return Path(place).lstat().st_ctime_ns
    except OSError:
        return math.inf


def list_paths_of_batch(batch: Batch) -> Iterator[str]:
    """Yield the paths of the files that a batch reads from folders."""
    if isinstance(batch, BatchGroup):
        for member in batch.members:
            yield from list_paths_of_batch(member)
    elif isinstance(batch, FolderBatch):
        yield from (place for file, place in batch.files if file.reason is None)


def read_plan(work: Path) -> Plan | None:
    """Return the complete plan of an earlier run; None if there is none."""
    if not (work / PLAN_FILE).exists():
        return None
    value: dict[str, Any] = read_json(work / PLAN_FILE, most_bytes=2**50)
    return Plan(tuple(value["sizes"]), value["digest"])


def to_plain_json(value: Any) -> Any:
    """Return a setting, such as a recipe, as plain JSON. Sets are sorted, so equal settings give equal JSON in every process."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, dict):
        return {str(key): to_plain_json(member) for key, member in sorted(value.items())}
    if isinstance(value, (set, frozenset)):
        return sorted((to_plain_json(member) for member in value), key=json.dumps)
    if isinstance(value, (list, tuple)):
        return [to_plain_json(member) for member in value]
    if isinstance(value, Path):
        return str(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    named = {"name": value.name} if hasattr(value, "name") else {"class": type(value).__qualname__}
    return named | {name: to_plain_json(member) for name, member in sorted(vars(value).items()) if not name.startswith("_")}
