"""The folder OUTPUT.work beside an unfinished OUTPUT. The same command resumes from it after an interruption.

    with lock_work_folder(work):
        if find_changes(work, key, "corpus"):
            clear_work(work)
            ...                                # write what the tasks read
            write_json(work / KEY_FILE, key)
        run_stage(...)
        remove_work(work)

WORK/key.json        the values that determine the output, in a few named parts; if a value changes, the work starts over
WORK/cluster/        the jobs of a cluster, see job_array.py
WORK/parts, out      the outputs of the tasks
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neox_code.corpus.executors.slurm import cancel_jobs, has_jobs
from neox_code.errors import DataError, LaunchError
from neox_code.files import PARTIAL_SUFFIX, folder_lock, partial_path, read_json, write_json
from neox_code.logs import get_logger

SUFFIX = ".work"
KEY_FILE = "key.json"
LOCK_FILE = ".lock"
CLUSTER_FOLDER = "cluster"
RUNNING_FILE = "running.json"
"""File in the folder of an attempt, as long as the attempt's jobs may run. A job starts no further task if it is missing."""
OUTPUT_FOLDERS = ("parts", "out")

log = get_logger(__name__)


def work_folder(output: Path) -> Path:
    return output.absolute().with_name(output.name + SUFFIX)


@contextmanager
def lock_work_folder(work: Path) -> Iterator[None]:
    """Lock the folder for this process, and cancel jobs on the cluster that an earlier, killed process has left running."""
    with folder_lock(work, LOCK_FILE):
        end_leftover_jobs(work)
        yield


def read_stored_key(work: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key that is stored in the folder, with the parts of `key`; all parts are None in a new folder.

    Raise DataError if the folder has files but no such key.
    """
    stored = read_json(work / KEY_FILE) if (work / KEY_FILE).exists() else None
    if isinstance(stored, dict) and (not stored or stored.keys() == key.keys()):
        return {part: stored.get(part) for part in key}
    own_names = (LOCK_FILE, partial_path(work / KEY_FILE).name)
    if stored is not None or (work.exists() and any(entry.name not in own_names for entry in work.iterdir())):
        raise DataError(
            f"{work} is the work folder of this output, but it holds other files, which would be lost. "
            "Choose another --output, or rename the folder."
        )
    return dict.fromkeys(key)


def find_changes(work: Path, key: Mapping[str, Any], title: str) -> list[str]:
    """Return the parts of `key` that differ from the key in the folder. Log them if an interrupted run has left the folder."""
    stored = read_stored_key(work, key)
    changed = [part for part in key if key[part] != stored[part]]
    if changed and any(value is not None for value in stored.values()):
        log.info("%s: the interrupted run in %s differs in %s: starting from the beginning", title, work, " and ".join(changed))
    return changed


def clear_work(work: Path, *kept: str) -> None:
    """Empty the folder except for the names in `kept`. The key file stays, so the folder is recognized after an interruption."""
    write_json(work / KEY_FILE, {})
    for entry in list(work.iterdir()):
        if entry.name in (KEY_FILE, LOCK_FILE, *kept):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def remove_work(work: Path) -> None:
    """Remove the folder. Its lock file may be open, so it is moved out first: NFS cannot remove a folder with an open file."""
    clear_work(work)
    if (work / LOCK_FILE).exists():
        (work / LOCK_FILE).replace(lock := work.with_name(work.name + LOCK_FILE))
        lock.unlink()
    shutil.rmtree(work)


def end_leftover_jobs(work: Path) -> None:
    """Cancel jobs on the cluster that an earlier process has left running, and remove the partial files of killed jobs."""
    if not (work / CLUSTER_FOLDER).exists():
        return
    for note in sorted((work / CLUSTER_FOLDER).glob(f"*/{RUNNING_FILE}")):
        name = read_json(note).get("slurm_job_name")
        if name is not None:
            if shutil.which("scancel") is None:
                raise LaunchError(
                    f"Slurm jobs named {name} of an interrupted run may still be running, and scancel is not installed here. "
                    f"Rerun the command on a machine of that Slurm cluster, or, if the jobs have ended, remove {note}."
                )
            if has_jobs(name):
                log.info("cancelling the Slurm jobs that an interrupted run has left (%s)", name)
                cancel_jobs(name)
        note.unlink()
    remove_partial_files(work)


def remove_partial_files(work: Path) -> None:
    """Remove the partial files of killed jobs. A later job does not replace them, because it writes other names."""
    for name in OUTPUT_FOLDERS:
        for path in (work / name).rglob(f"*{PARTIAL_SUFFIX}"):
            path.unlink(missing_ok=True)
