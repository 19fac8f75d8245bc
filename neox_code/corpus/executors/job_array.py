"""The file that every job of an attempt reads: the stage, the tasks of each job, and the paths and versions each machine needs.

save_job_array(folder, JobArray(stage, work, group_by_job(tasks, 32, 100), Path.cwd(), needs, read_versions()))
load_job_array(folder).groups[3]          # the tasks of the fourth job
"""

import os
import pickle
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from neox_code.corpus.code_digest import code_digest
from neox_code.corpus.executors.stages import Stage
from neox_code.files import atomic_file

MAX_JOBS = 1000
"""Maximum number of jobs of an attempt, because Slurm's default limit for an array is 1001 jobs."""
LIBRARIES = ("pyarrow", "pygments", "tokenizers", "gigatoken", "tiktoken", "sentencepiece")
"""Libraries whose versions may change the bytes of an output."""


@dataclass(frozen=True)
class JobArray:
    stage: Stage
    work: Path
    groups: tuple[tuple[int, ...], ...]
    """The tasks of each job."""
    start_folder: Path
    """Current folder of the driver. Relative paths start there."""
    needs: tuple[str, ...]
    """Paths that must exist on every machine."""
    versions: dict[str, str]
    """Package -> version that every machine must have."""


def read_versions() -> dict[str, str]:
    """Return package -> version for all packages whose version can change the bytes of an output."""
    own = {"Python": platform.python_version(), "neox_code": code_digest()[:16]}
    return own | {name: version(name) for name in LIBRARIES}


def make_import_path() -> str:
    """Return the PYTHONPATH with which another interpreter of this environment imports the same modules."""
    own = [Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)]
    paths = [Path(path).absolute() for path in sys.path]
    return os.pathsep.join(str(path) for path in paths if not any(map(path.is_relative_to, own)))


def group_by_job(tasks: Sequence[int], tasks_per_job: int | None, workers: int | None) -> tuple[tuple[int, ...], ...]:
    """Divide the tasks into consecutive groups, one for each job, at most MAX_JOBS.

    A job takes a second or two to start, about as long as a task takes. The default is 32 tasks per job, and fewer if there are few
    tasks: each worker gets at least three jobs, so that the last job does not delay the end.

    >>> group_by_job(range(7), 3, None)
    ((0, 1, 2), (3, 4, 5), (6,))
    >>> [len(group_by_job(range(count), None, 4)) for count in (3, 24, 240, 2400, 240_000)]
    [3, 12, 12, 75, 1000]
    """
    if tasks_per_job is None:
        tasks_per_job = 32 if workers is None else min(32, -(-len(tasks) // (3 * workers)))
    size = max(tasks_per_job, -(-len(tasks) // MAX_JOBS))
    return tuple(tuple(tasks[first : first + size]) for first in range(0, len(tasks), size))


def save_job_array(folder: Path, jobs: JobArray) -> None:
    with atomic_file(folder / "jobs.pickle", "wb") as file:
        pickle.dump(jobs, file)


def load_job_array(folder: Path) -> JobArray:
    """Return the saved job array; the inverse of `save_job_array`."""
    with (folder / "jobs.pickle").open("rb") as file:
        return pickle.load(file)
