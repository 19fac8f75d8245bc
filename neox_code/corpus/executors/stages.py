"""Stages of a build on disk: a stage is many tasks, each of which leaves one file in the work folder, whole or not at all.

    SCAN = Stage("scan", scan_batch, part_file)            # scan_batch(work, 7) yields bytes done and leaves part_file(work, 7)
    with LocalExecutor(workers=2) as executor:
        run_stage(SCAN, work, sizes, executor)

A task reads what it needs from the work folder and nothing from the memory of whoever starts it, so tasks can run on any machine
that sees the folder, in any order, any number of times. What is left of a killed run is what its finished tasks left: the next
run does the others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from neox_code.errors import DataError
from neox_code.logs import progress
from neox_code.processes.workers import Workers

Task = Callable[[Path, int], Iterator[float]]
"""A function of a module, with the work folder and a task's number: yields amounts of work done, leaves its output at the end."""


@dataclass(frozen=True)
class Stage:
    name: str
    run: Task
    output: Callable[[Path, int], Path]
    """What a task leaves, by the work folder and the task's number."""

    def missing(self, work: Path, num_tasks: int) -> list[int]:
        """The tasks that are not done."""
        return [task for task in range(num_tasks) if not is_whole(self.output(work, task))]


class Executor(Protocol):
    """What runs tasks somewhere."""

    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[float]:
        """Runs the tasks and yields the work done as it becomes known (a task that is known only to be done may yield nothing).

        What a task raises is raised here, or logged where it happened: `run_stage` looks for outputs, not for a return value.
        """
        ...


class LocalExecutor:
    """Runs tasks in processes of this machine; a context manager. A process that is killed is an error, never a hang."""

    def __init__(self, workers: int):
        self._workers = Workers(workers)
        self._begun: dict[tuple[str, int], list[float]] = {}
        """By stage and task: the work that was done before the stage is run, which it never is where nothing of it is missing."""

    def __enter__(self) -> "LocalExecutor":
        self._workers.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._workers.__exit__(*exception)

    def begin(self, stage: Stage, work: Path, task: int) -> None:
        """Starts a task of the stage that will be run, if a process is free; it goes on while others are being found."""
        for begun, done in self._workers.receive(timeout=0):
            self._begun[stage.name, -1 - begun].append(done)
        if self._workers.has_free_worker:
            self._workers.start(-1 - task, stage.run, (work, task))  # a number that `run` gives to no task
            self._begun[stage.name, task] = []

    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[float]:
        begun, self._begun = self._begun, {}
        for task in tasks:
            yield from begun.get((stage.name, task), ())
        counted = frozenset(-1 - task for task in tasks)
        rest = [(work, task) for task in tasks if (stage.name, task) not in begun]
        for number, done in self._workers.run(stage.run, rest):
            if number >= 0 or number in counted:  # others were done before
                yield done


def run_stage(stage: Stage, work: Path, sizes: Sequence[float], executor: Executor, unit: str = "B") -> None:
    """Does the tasks whose outputs are not there; `sizes` is the work in each. Raises DataError where one left nothing."""
    missing = stage.missing(work, len(sizes))
    if not missing:
        return
    total = sum(sizes)
    with progress(stage.name, total=total, unit=unit, done=total - sum(sizes[task] for task in missing)) as advance:
        for done in executor.run(stage, work, missing):
            advance(done)
    left = stage.missing(work, len(sizes))
    if left:
        raise DataError(
            f"{stage.name}: {len(left):,} of {len(missing):,} tasks left nothing in {work}, the first is {left[0]}. "
            "The logs of the processes that ran them name the reason: remove it, and rerun the same command for what is left."
        )


def is_whole(path: Path) -> bool:
    """Whether a Parquet file is there to its last byte; a file system that lost power can leave a name without its content."""
    try:
        with path.open("rb") as file:
            file.seek(-4, 2)
            return file.read() == b"PAR1"
    except OSError:
        return False
