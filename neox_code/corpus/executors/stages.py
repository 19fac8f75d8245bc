"""Stages of corpus work. A stage has many tasks; each task leaves one output file in the work folder, whole or not at all.

    SCAN = Stage("scan", scan_batch, get_scan_result_path)  # scan_batch(work, 7) yields bytes, writes get_scan_result_path(work, 7)
    with LocalExecutor(workers=2) as executor:
        run_stage(SCAN, work, sizes, executor)

A task reads its input from the work folder, not from the memory of the process that starts it. So tasks can run in any order, any
number of times, and on any machine that shares the folder. A killed run leaves the outputs of its finished tasks; the next run does
the other tasks.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from neox_code.errors import DataError
from neox_code.logs import get_logger, progress
from neox_code.processes.workers import Workers

log = get_logger(__name__)

Task = Callable[[Path, int], Iterator[Any]]
"""Function that does a task, called with the work folder and the number of the task. It must be a module's function, to be pickled.
It yields the amount of work done since its last yield (a number or a tuple of numbers) and writes the task's output at the end."""


@dataclass(frozen=True)
class Stage:
    name: str
    run: Task
    output: Callable[[Path, int], Path]
    """Function that returns the output file of a task, called with the work folder and the number of the task."""
    not_retried: tuple[type[Exception], ...] = ()
    """Types of errors after which a task is not repeated on a cluster: the stage ends at once, and the driver raises the error."""

    def find_missing(self, work: Path, num_tasks: int) -> list[int]:
        """Return the numbers of the tasks whose output file is missing or incomplete."""
        return [task for task in range(num_tasks) if not is_complete_file(self.output(work, task))]


class Executor(Protocol):
    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[Any]:
        """Run the tasks and yield the amounts of work done as they become known.

        An error of a task may be raised here, or only logged on its machine. `run_missing` checks later that all outputs exist.
        """
        ...


class InProcessExecutor:
    """Runs tasks in the calling process, one after another."""

    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[Any]:
        for task in tasks:
            yield from stage.run(work, task)


class LocalExecutor:
    """Runs tasks in worker processes of this machine; a context manager. If a worker is killed, a DataError is raised."""

    def __init__(self, workers: int):
        self._workers = Workers(workers)
        self._early: dict[tuple[str, int], list[Any]] = {}
        """(stage name, task) -> amounts of work done so far, for tasks that `start_early` has started before `run`."""

    def __enter__(self) -> "LocalExecutor":
        self._workers.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._workers.__exit__(*exception)

    def start_early(self, stage: Stage, work: Path, task: int) -> None:
        """If a worker is free, start a task of a stage before the stage's tasks are all known and `run` is called."""
        for early, amount in self._workers.receive(timeout=0):
            self._early[stage.name, -1 - early].append(amount)
        if self._workers.has_free_worker:
            self._workers.start(-1 - task, stage.run, (work, task))  # `run` numbers its own tasks from 0
            self._early[stage.name, task] = []

    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[Any]:
        early, self._early = self._early, {}
        for task in tasks:
            yield from early.get((stage.name, task), ())
        counted = frozenset(-1 - task for task in tasks)
        rest = [(work, task) for task in tasks if (stage.name, task) not in early]
        for number, amount in self._workers.run(stage.run, rest):
            if number >= 0 or number in counted:
                yield amount


def run_stage(stage: Stage, work: Path, sizes: Sequence[float], executor: Executor) -> None:
    """Run the tasks that have no output file yet, and show a progress bar. `sizes` is the work of each task in bytes."""
    missing = stage.find_missing(work, len(sizes))
    if not missing:
        return
    total = sum(sizes)
    with progress(stage.name, total=total, unit="B", done=total - sum(sizes[task] for task in missing)) as advance:
        for amount in run_missing(stage, work, missing, executor):
            advance(amount)


def run_missing(stage: Stage, work: Path, missing: Sequence[int], executor: Executor) -> Iterator[Any]:
    """Run the tasks and yield the amounts of work done. Raise DataError if a task left no output."""
    yield from executor.run(stage, work, missing)
    left = [task for task in missing if not is_complete_file(stage.output(work, task))]
    if left:
        raise DataError(
            f"{stage.name}: {len(left):,} of {len(missing):,} tasks left no output in {work}; the first is task {left[0]}. "
            "The logs of the processes that ran them contain the reason. Remove the cause. Rerun the same command to resume."
        )


def log_resume(title: str, work: Path, *stages: tuple[Stage, int, str]) -> None:
    """If an interrupted run has finished tasks, log their number. `stages` are (stage, number of tasks, plural noun for tasks)."""
    done = [num_tasks - len(stage.find_missing(work, num_tasks)) for stage, num_tasks, _ in stages]
    if any(done):
        parts = (f"{count:,} of {num_tasks:,} {noun}" for count, (_, num_tasks, noun) in zip(done, stages, strict=True))
        log.info("%s: resuming an interrupted run: %s", title, ", ".join(parts))


def is_complete_file(path: Path) -> bool:
    """Return True if a Parquet or JSON file is complete. After a power loss a file may exist without its content."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
            return True
        with path.open("rb") as file:
            file.seek(-4, 2)
            return file.read() == b"PAR1"
    except (OSError, ValueError):
        return False
