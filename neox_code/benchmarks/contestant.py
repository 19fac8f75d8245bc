"""A contestant of `deepy.py benchmark data`: a process that does one step of the way from source files to token files.

    python -m neox_code.benchmarks.MODULE NAME:CORES FOLDER

FOLDER holds the sample (`code`) and what was prepared of it; the process is bound to so many cores. Every round does the whole
step, from the start.
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

from neox_code.benchmarks.contest import answer_rounds
from neox_code.errors import run_command


@dataclass(frozen=True)
class Step:
    run: Callable[[], object]
    made: Callable[[], Any]
    """What the last run has made, in little; not a part of the measured time."""
    num_bytes: int
    """Of its input."""


MakeStep = Callable[[Path, int], Step]
"""From FOLDER and the number of cores. What it does itself is not measured."""


def serve(contestants: Mapping[str, MakeStep]) -> int:
    """Reads the command line, and does the step of the one that it names whenever asked."""

    def main(argv: Sequence[str]) -> int:
        contestant, folder = argv
        name, _, cores = contestant.partition(":")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
        step = contestants[name](Path(folder), int(cores))

        def measure() -> dict:
            begin, cpu_begin = time.perf_counter(), cpu_seconds()
            step.run()
            times = {"seconds": time.perf_counter() - begin, "cpu_seconds": cpu_seconds() - cpu_begin}
            return times | {"amount": step.num_bytes / 1e6, "memory_gib": peak_gib(), "made": step.made()}

        answer_rounds(measure, notes="")
        return 0

    return run_command(main, sys.argv[1:])


OURSELVES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
"""This process, and those it has waited for."""


def cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, OURSELVES))


def peak_gib() -> float:
    """The largest process's."""
    return max(resource.getrusage(who).ru_maxrss for who in OURSELVES) / 2**20


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
