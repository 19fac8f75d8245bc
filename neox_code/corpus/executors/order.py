"""What the jobs of one attempt at a stage have to do, on disk for whoever does it.

save_order(folder, Order(stage, work, grouped(tasks, 32, 100), Path.cwd(), needs, versions()))
run_group(folder, rank)           # in a job, see group.py
"""

import pickle
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pygments

from neox_code.corpus.code_digest import code_digest
from neox_code.corpus.executors.stages import Stage
from neox_code.files import atomic_file

ORDER_FILE = "order.pickle"
DIARIES = "diaries"
MAX_JOBS = 1000
"""At a time: Slurm's arrays have at most 1001 elements unless its administrator has said otherwise."""


@dataclass(frozen=True)
class Order:
    stage: Stage
    work: Path
    groups: tuple[tuple[int, ...], ...]
    """The tasks of each job."""
    started_in: Path
    """The folder in which relative paths begin."""
    needs: tuple[str, ...]
    """Paths that a machine must see to do the work."""
    versions: dict[str, str]
    """Of what decides the bytes of the output."""


def versions() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "pyarrow": pyarrow.__version__,
        "Pygments": pygments.__version__,
        "neox_code.corpus": code_digest()[:16],
    }


def grouped(tasks: Sequence[int], tasks_per_job: int | None, workers: int | None) -> tuple[tuple[int, ...], ...]:
    """The tasks in consecutive groups, one for each job: at most MAX_JOBS.

    A job costs a second or two before it does anything, and a task of 8 MiB takes about as long. Unless told otherwise a job
    has 32 tasks, or fewer where each worker would have less than three jobs, so that the last one does not keep all waiting.

    >>> grouped(range(7), 3, None)
    ((0, 1, 2), (3, 4, 5), (6,))
    >>> [len(grouped(range(count), None, 4)) for count in (3, 24, 240, 2400, 240_000)]
    [3, 12, 12, 75, 1000]
    """
    if tasks_per_job is None:
        tasks_per_job = 32 if workers is None else min(32, -(-len(tasks) // (3 * workers)))
    size = max(tasks_per_job, -(-len(tasks) // MAX_JOBS))
    return tuple(tuple(tasks[first : first + size]) for first in range(0, len(tasks), size))


def save_order(folder: Path, order: Order) -> None:
    with atomic_file(folder / ORDER_FILE, "wb") as file:
        pickle.dump(order, file)


def load_order(folder: Path) -> Order:
    """The inverse of `save_order`."""
    with (folder / ORDER_FILE).open("rb") as file:
        return pickle.load(file)
