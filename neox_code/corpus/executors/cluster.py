"""Run the tasks of a stage in jobs of a cluster. If tasks fail, run them again in a new attempt, until every output exists.

    with ClusterExecutor(SlurmCluster(), workers=64) as executor:
        build_corpus(sources, output, recipe, seed=1, executor=executor)

The driver is the process that starts the jobs. All machines share the work folder: jobs write in it, and the driver reads it. The
cluster reports when jobs have ended, but a task is done only if its output exists. Leaving the block cancels the running jobs.

WORK/cluster/STAGE-NUMBER/ has the files of an attempt: jobs.pickle, running.json, progress/ (job_log.py), logs/ (the jobs' output).

NFS shows new names late. The driver therefore creates the folders that it reads, and waits until the outputs of finished tasks
appear. File locks prevent two drivers on different machines from using one work folder. The file system must have locks (NFS
without the mount options nolock and local_lock).
"""

import contextlib
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import numpy as np

from neox_code.corpus.executors.job_array import JobArray, group_by_job, make_import_path, read_versions, save_job_array
from neox_code.corpus.executors.job_log import JobLogs
from neox_code.corpus.executors.ray import RayCluster, RayJobs
from neox_code.corpus.executors.slurm import SlurmCluster, SlurmJobs
from neox_code.corpus.executors.stages import Stage, is_complete_file
from neox_code.corpus.executors.work_folder import CLUSTER_FOLDER, RUNNING_FILE, end_leftover_jobs, remove_partial_files
from neox_code.corpus.executors.worker import JOB_LOGS, OUTPUT_LOGS, make_worker_command
from neox_code.errors import DataError
from neox_code.files import find_numbered_folders, write_json
from neox_code.logs import get_logger

POLL_SECONDS = 0.5
VISIBLE_SECONDS = 75
"""Seconds after which all machines see a new file on a network file system. NFS caches names for up to a minute."""

log = get_logger(__name__)


class ClusterExecutor:
    """An executor of stages.py; a context manager.

    At most `workers` jobs run at a time, each with `tasks_per_job` tasks. An attempt that finishes no task is repeated at most
    `retries` times; then the stage fails. Jobs without progress for `stall_seconds` are cancelled. A path in `needs` that exists on
    this machine must exist on every machine.
    """

    def __init__(
        self,
        cluster: SlurmCluster | RayCluster,
        *,
        workers: int | None = None,
        tasks_per_job: int | None = None,
        retries: int = 2,
        stall_seconds: float = 1800,
        needs: Sequence[str] = (),
    ):
        cluster.require_cluster()
        self.cluster = cluster
        self.workers = workers
        self.tasks_per_job = tasks_per_job
        self.retries = retries
        self.stall_seconds = stall_seconds
        self.needs = tuple(needs)
        self._running: tuple[SlurmJobs | RayJobs, Path] | None = None

    def __enter__(self) -> "ClusterExecutor":
        self._previous_handler = signal.signal(signal.SIGTERM, exit_on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_jobs()
        signal.signal(signal.SIGTERM, self._previous_handler)

    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[Any]:
        """Run the tasks in jobs of the cluster, in one or more attempts. Yield the amounts of work done."""
        work = work.absolute()
        end_leftover_jobs(work)
        for folder in {stage.output(work, task).parent for task in tasks}:
            folder.mkdir(parents=True, exist_ok=True)  # created here, because NFS caches that a folder is missing
        done: dict[int, Any] = {}
        missing, retries = list(tasks), self.retries
        while True:
            folder = make_attempt_folder(work, stage)
            errors: dict[int | None, str] = {}
            failures = yield from self._run_attempt(stage, work, missing, folder, done, errors)
            remove_partial_files(work)
            left = [task for task in missing if not is_complete_file(stage.output(work, task))]
            if not left:
                return
            if len(left) < len(missing):
                retries = self.retries
            error = next((errors[task] for task in (*left, None) if task in errors), None)
            reasons = "; ".join([*([f"jobs ended: {failures}"] if failures else []), *([error] if error else [])])
            reasons = f" ({reasons})" if reasons else ""
            if not retries:
                raise DataError(
                    f"{stage.name}: {len(left):,} of {len(tasks):,} tasks could not be done on {self.cluster.name}; the first is "
                    f"task {left[0]}{reasons}. The logs in {folder} contain the reason. Remove the cause. "
                    "Rerun the same command to resume."
                )
            log.warning("%s: %d tasks are not done%s; starting them again", stage.name, len(left), reasons)
            retries -= 1
            missing = left

    def _run_attempt(
        self, stage: Stage, work: Path, tasks: list[int], folder: Path, done: dict[int, Any], errors: dict[int | None, str]
    ) -> Generator[Any, None, str]:
        """Run the tasks once and yield the amounts of work done. Return a description of failed jobs.

        Add to `done` (task -> amount of work) and to `errors` (task -> message; the task None stands for a whole job).
        """
        groups = group_by_job(tasks, self.tasks_per_job, self.workers)
        needs = tuple(path for path in self.needs if Path(path).exists())
        save_job_array(folder, JobArray(stage, work, groups, Path.cwd(), needs, read_versions()))
        name = f"neox-code-{stage.name}-{uuid4().hex[:8]}"
        write_json(folder / RUNNING_FILE, {f"{self.cluster.name.lower()}_job_name": name})
        command = ["env", f"PYTHONPATH={make_import_path()}", *make_worker_command(folder)]
        jobs = self.cluster.start(name, folder, command, len(groups), self.workers)
        self._running = jobs, folder
        log.info("%s: %d tasks in %d jobs on %s, logs in %s", stage.name, len(tasks), len(groups), self.cluster.name, folder)
        logs = JobLogs(folder / JOB_LOGS)
        not_retried = {error.__name__: error for error in stage.not_retried}
        finished: set[int] = set()
        last_progress = time.monotonic()
        is_over = False
        while not is_over:
            time.sleep(POLL_SECONDS)
            is_over = jobs.is_over()
            lines = logs.read()
            for line in lines:
                if "done" in line:
                    before = np.asarray(done.get(line["task"], 0.0))
                    done[line["task"]] = now = np.maximum(line["done"], before)
                    yield (now - before).tolist()
                elif "finished" in line:
                    finished.add(line["task"])
                elif line.get("error_type") in not_retried:
                    self._end_jobs()
                    raise not_retried[line["error_type"]](line["error"].partition(": ")[2])
                elif "error" in line:
                    errors.setdefault(line.get("task"), line["error"])
            if lines or not jobs.is_making_progress(logs.num_open):
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > self.stall_seconds:
                log.warning("%s: no progress for %.0f s; cancelling the running jobs", stage.name, self.stall_seconds)
                break
        failures = jobs.describe_failures()
        self._end_jobs(cancel=not is_over)
        wait_for_files([stage.output(work, task) for task in finished])
        return failures

    def _end_jobs(self, cancel: bool = True) -> None:
        if self._running is None:
            return
        jobs, folder = self._running
        if cancel:
            jobs.cancel()
        (folder / RUNNING_FILE).unlink(missing_ok=True)
        self._running = None


def make_attempt_folder(work: Path, stage: Stage) -> Path:
    parent = work / CLUSTER_FOLDER
    folder = parent / f"{stage.name}-{max(find_numbered_folders(parent, f'{stage.name}-'), default=0) + 1}"
    for name in (JOB_LOGS, OUTPUT_LOGS):
        (folder / name).mkdir(parents=True)
    return folder


def wait_for_files(paths: Sequence[Path]) -> None:
    end = time.monotonic() + VISIBLE_SECONDS
    for path in paths:
        while not is_complete_file(path) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            with contextlib.suppress(OSError):
                next(path.parent.iterdir(), None)  # opening the folder makes NFS read it again; a missing name does not


def exit_on_signal(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)
