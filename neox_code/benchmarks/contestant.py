"""A contestant of `deepy.py benchmark data`: a process that runs one step of building token files from source files.

    python -m neox_code.benchmarks.MODULE NAME:CORES FOLDER

FOLDER contains the sample (`code`) and files that are prepared from it. The process uses CORES cores. Every round runs the whole
step.
"""

import hashlib
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neox_code.benchmarks.contest import run_requested_rounds
from neox_code.errors import run_command


@dataclass(frozen=True)
class TimedStep:
    run: Callable[[], object]
    made: Callable[[], Any]
    """Returns a short description of the last run's output; its time is not measured."""
    num_bytes: int
    """Size of the step's input in bytes."""


MakeTimedStep = Callable[[Path, int], TimedStep]
"""(FOLDER, number of cores) -> timed step. The time of the function itself is not measured."""


def run_contestant(contestants: Mapping[str, MakeTimedStep]) -> int:
    """Run the step of the command line once for each request."""

    def main(argv: Sequence[str]) -> int:
        contestant, folder = argv
        name, _, cores = contestant.partition(":")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
        step = contestants[name](Path(folder), int(cores))

        def measure() -> dict:
            begin, cpu_begin = time.perf_counter(), read_cpu_seconds()
            step.run()
            times = {"seconds": time.perf_counter() - begin, "cpu_seconds": read_cpu_seconds() - cpu_begin}
            return times | {"amount": step.num_bytes / 1e6, "memory_gib": read_peak_gib(), "made": step.made()}

        run_requested_rounds(measure, notes="")
        return 0

    return run_command(main, sys.argv[1:])


OURSELVES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
"""This process and its ended child processes."""


def read_cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, OURSELVES))


def read_peak_gib() -> float:
    """Return the peak memory of the largest process."""
    return max(resource.getrusage(who).ru_maxrss for who in OURSELVES) / 2**20


def compute_digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
