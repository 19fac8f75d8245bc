"""Work in stages, each of which is done once, in a folder that remembers.

    stages = [Stage("corpus", inputs={"seed": 1}, work=build), Stage("vocabulary", inputs={"size": 8192}, work=learn)]
    with claimed(Path("output")) as folder:
        records = run_stages(stages, folder)

A stage leaves `FOLDER/stages/NAME.json`. It is skipped where that record says that it ended, with the same inputs, after stages
with the same inputs, and its products are still there. From the first stage that has to be done, the later ones are done too.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from neox_code.errors import DataError
from neox_code.files import folder_lock, partial_path, read_json, write_json
from neox_code.logs import get_logger
from neox_code.processes.procfs import kill_marked

log = get_logger(__name__)

FORMAT = "neox-code stages 1"
MARK_FILE = "stages.json"
"""Tells a folder of stages from any other."""

LOCK_FILE = ".lock"
RECORDS = "stages"
FOLDER_VARIABLE = "NEOX_CODE_STAGES_FOLDER"
"""In the environment of every process that a stage starts: the folder it works for."""


@dataclass(frozen=True)
class Done:
    """What a stage's work leaves."""

    products: tuple[Path, ...]
    """Files without which it would have to be done again."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """What later stages and readers want to know; JSON values."""


@dataclass(frozen=True)
class Stage:
    name: str
    inputs: Mapping[str, Any]
    """What decides its result besides the stages before it; JSON values."""

    work: Callable[[], Done]
    """Does it, going on with what an interrupted run with the same inputs has left."""

    clear: Callable[[], None] = lambda: None
    """Removes what runs with other inputs have left and `work` would go on with."""

    going_on: Callable[[], str] = lambda: "begins again"
    """Says how `work` goes on after an interruption."""


@dataclass(frozen=True)
class Record:
    """A stage's file: that it began, or how it ended."""

    stage: str
    fingerprint: str
    """Hash of its inputs and those of all stages before it."""

    inputs: Mapping[str, Any]
    finished: bool = False
    seconds: float = 0.0
    """Of the run that finished it."""

    products: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


# ---- the folder


@contextmanager
def claimed(folder: Path, fresh: bool = False) -> Iterator[Path]:
    """Holds a folder of stages for this process, made where there is none, emptied where `fresh`.

    Processes that an earlier, killed run has left are ended first. Raises DataError for a folder with other content, which stays
    as it is, and LaunchError where another run holds it.
    """
    if not is_stages_folder(folder) and not is_free(folder):
        raise DataError(f"{folder} holds other things, which would be overwritten or deleted. Choose another --output.")
    with folder_lock(folder):
        write_json(folder / MARK_FILE, {"format": FORMAT})
        kill_marked("=".join(mark_of(folder).popitem()))
        if fresh:
            empty(folder)
        yield folder


def is_stages_folder(folder: Path) -> bool:
    """Raises DataError for one of another version."""
    mark = folder / MARK_FILE
    if not mark.is_file():
        return False
    found = read_json(mark)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{mark} does not say {FORMAT!r}: the folder is another version's. Choose another --output.")
    return True


def is_free(folder: Path) -> bool:
    """Whether there is no such folder, or nothing in it."""
    if not folder.is_dir():
        return not folder.exists()
    return {entry.name for entry in folder.iterdir()} <= {LOCK_FILE, partial_path(Path(MARK_FILE)).name}


def empty(folder: Path) -> None:
    """Deletes all but mark and lock; the records first, so that an interrupted deletion leaves nothing that counts."""
    shutil.rmtree(folder / RECORDS, ignore_errors=True)
    for entry in folder.iterdir():
        if entry.name not in (MARK_FILE, LOCK_FILE):
            remove(entry)


def remove(path: Path) -> None:
    """Deletes a file, a link or a folder with everything in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mark_of(folder: Path) -> dict[str, str]:
    """The environment variable of all processes that work for this folder."""
    return {FOLDER_VARIABLE: str(folder.resolve())}


# ---- the stages


def run_stages(stages: Sequence[Stage], folder: Path) -> list[Record]:
    """Does what is not done, and returns a finished record for each stage; logs a line for each, with the reason."""
    records: list[Record] = []
    for index, stage in enumerate(stages):
        inputs = json.loads(json.dumps(stage.inputs))
        previous = records[-1].fingerprint if records else ""
        wanted = Record(stage.name, fingerprint(previous, stage.name, inputs), inputs)
        found = read_record(folder, stage.name)
        title = f"{index + 1}/{len(stages)} {stage.name}"
        if found and found.finished and not (reason := staleness(found, wanted, folder)):
            log.info("%s | done before, in %.0f s: skipped", title, found.seconds)
            records.append(found)
            continue
        if found and not found.finished and found.fingerprint == wanted.fingerprint:
            log.info("%s | was interrupted: %s", title, stage.going_on())
        else:
            log.info("%s | %s: done again", title, reason) if found and found.finished else log.info("%s", title)
            forget(stages[index:], folder)
            stage.clear()
        records.append(carry_out(stage, wanted, folder))
    return records


def carry_out(stage: Stage, begun: Record, folder: Path) -> Record:
    write_record(begun, folder)
    begin = time.monotonic()
    done = stage.work()
    products = tuple(str(path.relative_to(folder)) for path in done.products)
    record = Record(
        stage.name, begun.fingerprint, begun.inputs, True, round(time.monotonic() - begin, 1), products, dict(done.facts)
    )
    write_record(record, folder)
    return record


def fingerprint(previous: str, name: str, inputs: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps([previous, name, inputs], sort_keys=True).encode())


def staleness(found: Record, wanted: Record, folder: Path) -> str:
    """Why a finished stage has to be done again; empty where it has not."""
    if changed := sorted(key for key in found.inputs.keys() | wanted.inputs if found.inputs.get(key) != wanted.inputs.get(key)):
        return f"{', '.join(changed)} changed"
    if found.fingerprint != wanted.fingerprint:
        return "a stage before it changed"
    gone = [product for product in found.products if not (folder / product).exists()]
    return f"{folder / gone[0]} is gone" if gone else ""


def record_path(folder: Path, name: str) -> Path:
    return folder / RECORDS / f"{name}.json"


def write_record(record: Record, folder: Path) -> None:
    write_json(record_path(folder, record.stage), asdict(record))


def read_record(folder: Path, name: str) -> Record | None:
    """The inverse of `write_record`; None where there is none. Raises DataError where it is damaged."""
    path = record_path(folder, name)
    if not path.exists():
        return None
    try:
        return Record(**read_json(path))
    except TypeError:
        raise DataError(f"{path} is not a stage's record. Delete it, and the stage is done again.") from None


def read_records(stages: Sequence[Stage], folder: Path) -> dict[str, Record]:
    """The stages' records, by name, as far as there are any."""
    found = {stage.name: read_record(folder, stage.name) for stage in stages}
    return {name: record for name, record in found.items() if record is not None}


def forget(stages: Sequence[Stage], folder: Path) -> None:
    for stage in stages:
        record_path(folder, stage.name).unlink(missing_ok=True)
