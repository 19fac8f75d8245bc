"""One job of a cluster: python -m neox_code.corpus.executors.worker FOLDER --worker I/N

FOLDER is the folder of an attempt (cluster.py), whose tasks are divided into N groups. The job runs the tasks of group I, counted
from 0, one after another in a child process. It skips tasks that have an output, so a job can be killed and restarted at any time.
If a task fails or its process is killed, the other tasks still run. When the driver has ended the attempt, no further task starts.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np

from neox_code.corpus.executors.job_array import JobArray, load_job_array, read_versions
from neox_code.corpus.executors.job_log import JobLog
from neox_code.corpus.executors.stages import is_complete_file
from neox_code.corpus.executors.work_folder import RUNNING_FILE
from neox_code.errors import DataError, NeoXError, run_command
from neox_code.files import WRITER_VARIABLE
from neox_code.processes.parent import die_with_parent
from neox_code.processes.workers import Workers

JOB_LOGS = "progress"
OUTPUT_LOGS = "logs"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worker", required=True, metavar="I/N")
    parser.add_argument("--parent", type=int, help="end when this parent process ends")
    arguments = parser.parse_args(argv)
    if arguments.parent is not None:
        die_with_parent(signal.SIGKILL, arguments.parent)
    run_job(arguments.folder, int(arguments.worker.partition("/")[0]))
    return 0


def make_worker_command(folder: Path) -> list[str]:
    """Return the command of a job, without its last argument I/N."""
    return [sys.executable, "-P", "-m", "neox_code.corpus.executors.worker", str(folder), "--worker"]


def run_as_child(folder: Path, job: int, count: int) -> int:
    """Run a job in a child process, which ends when this process ends. Return its status; raise RuntimeError if it was killed."""
    with (folder / OUTPUT_LOGS / f"{job:05d}.out").open("ab") as log:
        command = [*make_worker_command(folder), f"{job}/{count}", "--parent", str(os.getpid())]
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if status < 0:
        raise RuntimeError(f"job {job} was ended by signal {signal.Signals(-status).name}")
    return status


def run_job(folder: Path, job: int) -> None:
    """Run the tasks of a job. Raise DataError if a task failed."""
    with JobLog(folder / JOB_LOGS, job) as job_log:
        try:
            jobs = load_job_array(folder)
            check_machine(jobs)
            os.chdir(jobs.start_folder)
        except Exception as error:
            job_log.write(error=format_error(error))
            raise
        os.environ[WRITER_VARIABLE] = f".{uuid4().hex[:8]}"
        failed = 0
        with Workers(1, remedy="Rerun with a larger --mem-per-cpu.") as workers:
            for task in jobs.groups[job]:
                if not (folder / RUNNING_FILE).exists():
                    print(f"the attempt of {folder} has ended: no further task is started", file=sys.stderr)
                    return
                if is_complete_file(jobs.stage.output(jobs.work, task)):
                    continue
                try:
                    done = np.zeros(())
                    for _, amount in workers.run(jobs.stage.run, [(jobs.work, task)]):
                        done = done + np.asarray(amount)
                        job_log.write(task=task, done=done.tolist())
                    job_log.write(task=task, finished=True)
                except Exception as error:
                    failed += 1
                    job_log.write(task=task, error=format_error(error), error_type=type(error).__name__)
                    traceback.print_exception(error)
        if failed:
            raise DataError(
                f"{failed} of {len(jobs.groups[job])} tasks failed on {socket.gethostname()}; the errors are above in this log."
            )


def check_machine(jobs: JobArray) -> None:
    """Raise DataError if this machine lacks a needed path, or has other package versions, with which its outputs could differ."""
    host = socket.gethostname()
    for path in (*jobs.needs, str(jobs.start_folder)):
        if not Path(path).exists():
            raise DataError(f"{path} does not exist on {host}. Put it on a file system that all machines share, at one path.")
    own = read_versions()
    other = [f"{name} {own[name]} instead of {expected}" for name, expected in jobs.versions.items() if own[name] != expected]
    if other:
        raise DataError(f"{host} has {', '.join(other)}. Use the same environment on all machines.")


def format_error(error: BaseException) -> str:
    message = str(error) if isinstance(error, NeoXError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
