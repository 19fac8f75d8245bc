"""The process that hands an attempt's jobs to a cluster through datatrove: python -m neox_code.corpus.executors.submit FOLDER.

    submission = submit(folder, order, workers, settings, note={"slurm_job_name": name})
    submission.finish()                    # waits; raises LaunchError with the last of what it said

A process of its own keeps datatrove's and Ray's logging, signal handlers and changes of the environment out of the driver's.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neox_code.corpus.executors.left_jobs import NOTE_FILE
from neox_code.corpus.executors.order import Order, save_order
from neox_code.corpus.executors.slurm_commands import own_variables
from neox_code.errors import LaunchError
from neox_code.files import write_json

LOG_FILE = "submit.log"
SETTINGS_FILE = "settings.json"
ERROR_MARKS = ("error: ", "sbatch: error: ")
ENDS_WITHIN_SECONDS = 10


class Submission:
    def __init__(self, process: subprocess.Popen[bytes], log: Path):
        self.process = process
        self.log = log

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def finish(self) -> None:
        status = self.process.wait()
        if status:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = [line.partition("error: ")[2] for line in lines if line.startswith(ERROR_MARKS)] or lines[-1:]
            raise LaunchError(f"the jobs could not be started (status {status}): {'; '.join(said)} See {self.log}.")

    def end(self) -> None:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            if not self.has_ended():
                self.process.send_signal(ending)
                try:
                    self.process.wait(ENDS_WITHIN_SECONDS)
                except subprocess.TimeoutExpired:
                    continue


def submit(folder: Path, order: Order, workers: int | None, settings: Mapping[str, Any], note: Mapping[str, str]) -> Submission:
    """Writes the attempt's folder, the note of it first, and starts the process."""
    write_json(folder / NOTE_FILE, note)
    save_order(folder, order)
    own = {"cluster": "slurm" if "slurm_job_name" in note else "ray", "tasks": len(order.groups), "workers": workers or -1}
    write_json(folder / SETTINGS_FILE, own | {"settings": settings, "python_path": python_path()})
    command = [sys.executable, "-P", "-m", "neox_code.corpus.executors.submit", str(folder), str(os.getpid())]
    environment = own_variables(os.environ) | {"PYTHONPATH": python_path()}
    with (folder / LOG_FILE).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,  # Ray puts it in front of what its workers import from
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    return Submission(process, folder / LOG_FILE)


def python_path() -> str:
    """Where this process finds its modules, apart from what belongs to its interpreter."""
    own = [Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)]
    places = [Path(place).absolute() for place in sys.path]
    return os.pathsep.join(str(place) for place in places if not any(place.is_relative_to(prefix) for prefix in own))
