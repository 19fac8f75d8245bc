"""Jobs of a cluster that a killed driver has left running: they are ended before anything else is done in the work folder.

    end_left_jobs(work)

An attempt at a stage has a folder cluster/STAGE-NUMBER in the work folder, and in it a note for as long as its jobs may run.
Without the note they go no further, wherever they are.
"""

import shutil
from pathlib import Path

from neox_code.corpus.executors.slurm_commands import cancel, has_jobs
from neox_code.errors import LaunchError
from neox_code.files import PARTIAL_SUFFIX, read_json
from neox_code.logs import get_logger

CLUSTER_FOLDER = "cluster"
NOTE_FILE = "running.json"
OUTPUT_FOLDERS = ("parts", "out")

log = get_logger(__name__)


def end_left_jobs(work: Path) -> None:
    """Ends what an earlier driver has left, and removes the half-written files of jobs that were killed."""
    if not (work / CLUSTER_FOLDER).exists():
        return
    for note in sorted((work / CLUSTER_FOLDER).glob(f"*/{NOTE_FILE}")):
        name = read_json(note).get("slurm_job_name")
        if name is not None:
            if shutil.which("scancel") is None:
                raise LaunchError(
                    f"jobs called {name} of an interrupted run may still be running, and scancel is not installed here. "
                    f"Run again on a machine of that Slurm cluster, or, if they have ended, remove {note}."
                )
            if has_jobs(name):
                log.info("corpus: cancelling the jobs that an interrupted run has left (%s)", name)
                cancel(name)
        note.unlink()
    remove_partial_files(work)


def remove_partial_files(work: Path) -> None:
    """Half-written files of killed jobs have names of their own, so nobody writes over them."""
    for name in OUTPUT_FOLDERS:
        for path in (work / name).rglob(f"*{PARTIAL_SUFFIX}"):
            path.unlink(missing_ok=True)
