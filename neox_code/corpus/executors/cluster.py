"""Runs the tasks of a stage on a cluster: in groups, as often as is needed, until every output is there.

    with ClusterExecutor(SlurmCluster(), workers=64) as executor:
        build_corpus(sources, output, recipe, seed=1, executor=executor)

The driver looks at what the jobs write into the work folder, which all machines share. What a cluster says of its jobs is used
to know when they have ended, never whether they did their work: that is told by the outputs. Leaving the block cancels what runs.

NFS will do, which shows names late: the driver makes the folders that it looks into, and waits for what a job has finished. Two
drivers of one corpus on different machines are kept apart by the locks of the file system, and by nothing where it has none that
all machines share (mounted with nolock or local_lock).
"""

import contextlib
import importlib.util
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from neox_code.corpus.executors.diary import Diaries
from neox_code.corpus.executors.left_jobs import CLUSTER_FOLDER, NOTE_FILE, end_left_jobs, remove_partial_files
from neox_code.corpus.executors.order import DIARIES, Order, grouped, versions
from neox_code.corpus.executors.stages import Stage, is_whole
from neox_code.errors import ConfigError, DataError
from neox_code.files import numbered_folders
from neox_code.logs import get_logger

LOOK_SECONDS = 0.5
SETTLE_SECONDS = 75
"""Within which a network file system shows everybody what one machine has finished: NFS remembers names for up to a minute."""

log = get_logger(__name__)


class Job(Protocol):
    """The jobs of one attempt."""

    def is_over(self) -> bool: ...

    def is_working(self, num_open: int) -> bool:
        """Whether some of them run, so that progress is to be expected; `num_open` have begun and not said that they ended."""
        ...

    def end(self) -> None: ...

    def account(self) -> str: ...


class Cluster(Protocol):
    name: str

    def check(self) -> None:
        """Raises ConfigError where it cannot be used from here."""
        ...

    def start(self, order: Order, folder: Path, workers: int | None) -> Job: ...


class ClusterExecutor:
    """An executor of stages.py; a context manager.

    `workers` limits how many jobs run at a time, `tasks_per_job` sets how many tasks each has, `retries` how many attempts in a
    row may finish no further task, `stall_seconds` after how long without progress the jobs that run are given up; `needs`
    are paths that every machine must see, if they are there.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        workers: int | None = None,
        tasks_per_job: int | None = None,
        retries: int = 2,
        stall_seconds: float = 1800,
        needs: Sequence[str] = (),
    ):
        if importlib.util.find_spec("datatrove") is None:
            raise ConfigError(f"--executor {cluster.name.lower()} needs datatrove: pip install 'neox-code[cluster]'.")
        cluster.check()
        self.cluster = cluster
        self.workers = workers
        self.tasks_per_job = tasks_per_job
        self.retries = retries
        self.stall_seconds = stall_seconds
        self.needs = tuple(needs)
        self._running: tuple[Job, Path] | None = None
        self._account = ""

    def __enter__(self) -> "ClusterExecutor":
        self._before = signal.signal(signal.SIGTERM, end_in_order)
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        signal.signal(signal.SIGTERM, self._before)

    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[float]:
        work = work.absolute()
        end_left_jobs(work)
        for place in {stage.output(work, task).parent for task in tasks}:
            place.mkdir(parents=True, exist_ok=True)  # by whoever looks into it: NFS remembers that a folder was not there
        done: dict[int, float] = {}
        missing, retries = list(tasks), self.retries
        while True:
            folder = next_folder(work, stage)
            errors: dict[int | None, str] = {}
            yield from self._attempt(stage, work, missing, folder, done, errors)
            remove_partial_files(work)
            left = [task for task in missing if not is_whole(stage.output(work, task))]
            if not left:
                return
            if len(left) < len(missing):
                retries = self.retries
            why = self._why(left, errors)
            if not retries:
                raise DataError(
                    f"{stage.name}: {len(left):,} of {len(tasks):,} tasks could not be done on {self.cluster.name}, "
                    f"the first is {left[0]}{why}. The logs in {folder} name the reason: remove it, and rerun the "
                    "same command for what is left."
                )
            log.warning("%s: %d tasks are not done%s: starting them again", stage.name, len(left), why)
            retries -= 1
            missing = left

    def _attempt(
        self, stage: Stage, work: Path, tasks: list[int], folder: Path, done: dict[int, float], errors: dict[int | None, str]
    ) -> Iterator[float]:
        """Starts the tasks, follows them until the jobs have ended, and yields the work done; fills `done` and `errors`."""
        groups = grouped(tasks, self.tasks_per_job, self.workers)
        needs = tuple(place for place in self.needs if Path(place).exists())
        order = Order(stage, work, groups, Path.cwd(), needs, versions())
        job = self.cluster.start(order, folder, self.workers)
        self._running = job, folder
        log.info("%s: %d tasks in %d jobs on %s, logs in %s", stage.name, len(tasks), len(groups), self.cluster.name, folder)
        diaries = Diaries(folder / DIARIES)
        finished: set[int] = set()
        moved = time.monotonic()
        is_over = False
        while not is_over:
            time.sleep(LOOK_SECONDS)
            is_over = job.is_over()
            lines = diaries.read()
            for line in lines:
                if "done" in line:
                    yield max(0.0, line["done"] - done.get(line["task"], 0.0))
                    done[line["task"]] = max(line["done"], done.get(line["task"], 0.0))
                elif "whole" in line:
                    finished.add(line["task"])
                elif "error" in line:
                    errors.setdefault(line.get("task"), line["error"])
            if lines or not job.is_working(diaries.num_open):
                moved = time.monotonic()
            elif time.monotonic() - moved > self.stall_seconds:
                log.warning("%s: no progress for %.0f s: ending the jobs that run", stage.name, self.stall_seconds)
                break
        self._account = job.account()
        self._end(cancel=not is_over)
        wait_for_files([stage.output(work, task) for task in finished])

    def _end(self, cancel: bool = True) -> None:
        if self._running is None:
            return
        job, folder = self._running
        if cancel:
            job.end()
        (folder / NOTE_FILE).unlink(missing_ok=True)
        self._running = None

    def _why(self, left: Sequence[int], errors: dict[int | None, str]) -> str:
        said = next((errors[task] for task in (*left, None) if task in errors), None)
        reasons = [f"jobs ended: {self._account}"] if self._account else []
        if said is not None:
            reasons.append(said)
        return f" ({'; '.join(reasons)})" if reasons else ""


def next_folder(work: Path, stage: Stage) -> Path:
    parent = work / CLUSTER_FOLDER
    folder = parent / f"{stage.name}-{max(numbered_folders(parent, f'{stage.name}-'), default=0) + 1}"
    (folder / DIARIES).mkdir(parents=True)
    return folder


def wait_for_files(paths: Sequence[Path]) -> None:
    end = time.monotonic() + SETTLE_SECONDS
    for path in paths:
        while not is_whole(path) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            with contextlib.suppress(OSError):
                next(path.parent.iterdir(), None)  # NFS asks anew for a folder that is opened, not for a name that was not in it


def end_in_order(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)
