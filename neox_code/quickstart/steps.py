"""Run a job in steps. Each step is done once, because a folder holds a record of each finished step.

    steps = [Step("corpus", inputs={"seed": 1}, work=build), Step("vocabulary", inputs={"size": 8192}, work=train)]
    with claim_folder(Path("output")) as folder:
        records = run_steps(steps, folder)

A step writes its record to `FOLDER/stages/NAME.json`. A step is skipped if its record shows that this step and all earlier steps
finished with the same inputs, and if its output files still exist. All steps after the first step that is not skipped are done
again.
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
from neox_code.processes.procfs import kill_marked_processes

log = get_logger(__name__)

FORMAT = "neox-code stages 1"
MARK_FILE = "stages.json"
"""File whose presence shows that this module made the folder."""

LOCK_FILE = ".lock"
RECORDS = "stages"
FOLDER_VARIABLE = "NEOX_CODE_STAGES_FOLDER"
"""Environment variable with the folder of the job. Every process that a step starts has this variable."""


@dataclass(frozen=True)
class FinishedStep:
    """The results of a step."""

    products: tuple[Path, ...]
    """Output files of the step. If one is missing, the step is done again."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """Figures for later steps and the report; JSON values."""


@dataclass(frozen=True)
class Step:
    name: str
    inputs: Mapping[str, Any]
    """All values that determine the step's result, besides the results of earlier steps; JSON values."""

    work: Callable[[], FinishedStep]
    """Function that does the step. It resumes the work of an interrupted run with the same inputs."""

    clear: Callable[[], None] = lambda: None
    """Function that is called before the step starts anew. It removes the files from which `work` would resume."""

    describe_resume: Callable[[], str] = lambda: "starts over"
    """Function that returns a text on where `work` resumes after an interruption."""


@dataclass(frozen=True)
class Record:
    """Content of a step's JSON file: the inputs, and after the end of the step the results."""

    stage: str
    fingerprint: str
    """Hash of the inputs of this step and of all earlier steps."""

    inputs: Mapping[str, Any]
    finished: bool = False
    seconds: float = 0.0
    """Duration of the run that finished the step, in seconds."""

    products: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


# ---- the folder


@contextmanager
def claim_folder(folder: Path, fresh: bool = False) -> Iterator[Path]:
    """Lock a folder of steps for this process; create it if it is missing, empty it if `fresh`.

    First kill all processes that an earlier, killed run left. Raise DataError for a folder with other content, which stays
    unchanged. Raise LaunchError if another run has locked the folder.
    """
    if not is_step_folder(folder) and not is_missing_or_empty(folder):
        raise DataError(f"{folder} has other contents, which would be overwritten or deleted. Choose another --output.")
    with folder_lock(folder):
        write_json(folder / MARK_FILE, {"format": FORMAT})
        kill_marked_processes("=".join(make_folder_variable(folder).popitem()))
        if fresh:
            clear_folder(folder)
        yield folder


def is_step_folder(folder: Path) -> bool:
    """Return True if this module made the folder. Raise DataError if another version made it."""
    mark = folder / MARK_FILE
    if not mark.is_file():
        return False
    found = read_json(mark)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{mark} does not have the format {FORMAT!r}: another version wrote the folder. Choose another --output.")
    return True


def is_missing_or_empty(folder: Path) -> bool:
    if not folder.is_dir():
        return not folder.exists()
    return {entry.name for entry in folder.iterdir()} <= {LOCK_FILE, partial_path(Path(MARK_FILE)).name}


def clear_folder(folder: Path) -> None:
    """Delete all files except the mark and the lock file. The records are deleted first, in case the deletion is interrupted."""
    shutil.rmtree(folder / RECORDS, ignore_errors=True)
    for entry in folder.iterdir():
        if entry.name not in (MARK_FILE, LOCK_FILE):
            remove_path(entry)


def remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder_variable(folder: Path) -> dict[str, str]:
    """Return the environment variable of all processes that work for this folder."""
    return {FOLDER_VARIABLE: str(folder.resolve())}


# ---- the steps


def run_steps(steps: Sequence[Step], folder: Path) -> list[Record]:
    """Do the steps that are not finished, and return a record for each step. Log for each step whether and why it is done."""
    records: list[Record] = []
    for index, step in enumerate(steps):
        inputs = json.loads(json.dumps(step.inputs))
        previous = records[-1].fingerprint if records else ""
        fingerprint = xxhash.xxh3_128_hexdigest(json.dumps([previous, step.name, inputs], sort_keys=True).encode())
        wanted = Record(step.name, fingerprint, inputs)
        found = read_record(folder, step.name)
        title = f"{index + 1}/{len(steps)} {step.name}"
        if found and found.finished and not (reason := find_change(found, wanted, folder)):
            log.info("%s | skipped: finished before in %.0f s", title, found.seconds)
            records.append(found)
            continue
        if found and not found.finished and found.fingerprint == wanted.fingerprint:
            log.info("%s | was interrupted: %s", title, step.describe_resume())
        else:
            log.info("%s | %s: running this step again", title, reason) if found and found.finished else log.info("%s", title)
            for later in steps[index:]:
                get_step_record_path(folder, later.name).unlink(missing_ok=True)
            step.clear()
        records.append(run_step(step, wanted, folder))
    return records


def run_step(step: Step, started: Record, folder: Path) -> Record:
    """Do a step, and return its finished record."""
    write_record(started, folder)
    start = time.monotonic()
    result = step.work()
    products = tuple(str(path.relative_to(folder)) for path in result.products)
    record = Record(
        step.name, started.fingerprint, started.inputs, True, round(time.monotonic() - start, 1), products, dict(result.facts)
    )
    write_record(record, folder)
    return record


def find_change(found: Record, wanted: Record, folder: Path) -> str:
    """Return the reason why a finished step must be done again; "" if its result is still valid."""
    if changed := sorted(key for key in found.inputs.keys() | wanted.inputs if found.inputs.get(key) != wanted.inputs.get(key)):
        return f"{', '.join(changed)} changed"
    if found.fingerprint != wanted.fingerprint:
        return "an earlier step changed"
    missing = [product for product in found.products if not (folder / product).exists()]
    return f"{folder / missing[0]} is missing" if missing else ""


def get_step_record_path(folder: Path, name: str) -> Path:
    return folder / RECORDS / f"{name}.json"


def write_record(record: Record, folder: Path) -> None:
    write_json(get_step_record_path(folder, record.stage), asdict(record))


def read_record(folder: Path, name: str) -> Record | None:
    """Read a record that `write_record` wrote; return None if there is none. Raise DataError if it is damaged."""
    path = get_step_record_path(folder, name)
    if not path.exists():
        return None
    try:
        return Record(**read_json(path))
    except TypeError:
        raise DataError(f"{path} is not the record of a step. Delete it to do the step again.") from None


def read_records(steps: Sequence[Step], folder: Path) -> dict[str, Record]:
    """Return the existing records by the names of their steps."""
    found = {step.name: read_record(folder, step.name) for step in steps}
    return {name: record for name, record in found.items() if record is not None}
