"""Measure contestants in turn, each in a process of its own, round after round.

The speed of a machine drifts, so contestants take turns, and a ratio is the median over rounds of the ratio within a round. Peak
memory is that of each contestant's process.

On a GPU, whose memory they share, each contestant runs all its rounds before the next one starts (`take_turns=False`).
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from neox_code.errors import EXIT_USER_ERROR, NeoXError
from neox_code.launch.command import ALLOCATOR
from neox_code.processes.parent import die_with_parent

RESULTS_VARIABLE = "NEOX_CODE_RESULTS"
"""Environment variable with the number of the file descriptor into which a contestant writes its results."""


@dataclass
class Measured:
    name: str
    per_second: list[float] = field(default_factory=list)
    """Tokens or megabytes per second, by round."""
    per_cpu_second: list[float] = field(default_factory=list)
    """Tokens or megabytes per second of processor time, which does not depend on other programs; empty if not measured."""
    memory_gib: float = 0.0
    notes: str = ""
    made: Any = None
    """Short description of the last round's output, for comparison."""
    figures: list[dict[str, dict[str, float]]] = field(default_factory=list)
    """By round: subject of the measurement -> {case: value}, for a benchmark with several figures."""

    @property
    def median(self) -> float:
        return statistics.median(self.per_second)


class Contestant:
    """A process that runs one round per line of its standard input and writes the result to a pipe. It ends with the `with` block.

    The process has the memory-allocator settings that training uses, unless `environment` is given. Its standard output goes to
    this process's standard error.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str] = ALLOCATOR):
        self.measured = Measured(name)
        reading, writing = os.pipe()
        self.results = os.fdopen(reading)
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            text=True,
            pass_fds=[writing],
            env={**environment, **os.environ, RESULTS_VARIABLE: str(writing)},
            preexec_fn=die_with_parent,
        )
        os.close(writing)
        assert self.process.stdin is not None
        self.requests = self.process.stdin

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is not None:
            self.process.kill()
        self.stop()

    def read_reply(self) -> dict:
        """Return the next result. If the process has ended, raise NeoXError, or SystemExit if it has reported a user's mistake."""
        line = self.results.readline()
        if not line:
            status = self.stop()
            if status == EXIT_USER_ERROR:
                raise SystemExit(status)
            raise NeoXError(f"the benchmark of {self.measured.name} ended with status {status} before it had a result.")
        return json.loads(line)

    def wait_until_ready(self) -> None:
        self.measured.notes = self.read_reply()["notes"]

    def run_round(self) -> None:
        """Let the process run a round; add its result to `measured`."""
        with suppress(BrokenPipeError):  # the process has ended; `read_reply` reports it
            self.requests.write("round\n")
            self.requests.flush()
        result = self.read_reply()
        self.measured.per_second.append(result["amount"] / result["seconds"])
        if "cpu_seconds" in result:
            self.measured.per_cpu_second.append(result["amount"] / result["cpu_seconds"])
        self.measured.memory_gib = result["memory_gib"]
        self.measured.made = result.get("made")
        self.measured.figures.append(result.get("figures", {}))

    def stop(self) -> int:
        """Close the pipes, which ends the process; return its exit status."""
        with suppress(BrokenPipeError):
            self.requests.close()
        status = self.process.wait()
        self.results.close()
        return status


def run_contest(
    starts: Sequence[Callable[[], Contestant]], rounds: int, take_turns: bool, advance: Callable[[], object]
) -> list[Measured]:
    """Run every contestant for `rounds` rounds; call `advance` after each round."""
    if not take_turns:
        return [result for start in starts for result in run_contest([start], rounds, True, advance)]
    with ExitStack() as stack:
        contestants = []
        for start in starts:
            contestants.append(stack.enter_context(start()))
            contestants[-1].wait_until_ready()
        for _ in range(rounds):
            for contestant in contestants:
                contestant.run_round()
                advance()
    return [contestant.measured for contestant in contestants]


def compute_ratio(ours: Measured, peer: Measured) -> float:
    """Return the ratio of our speed to the peer's: the median over rounds of the ratio within a round.

    >>> compute_ratio(Measured("a", [2.0, 8.0, 6.0]), Measured("b", [1.0, 2.0, 3.0]))
    2.0
    """
    return compute_median_ratio(ours.per_second, peer.per_second)


def compute_cpu_ratio(ours: Measured, peer: Measured) -> float:
    """Return how many times less processor time ours takes: the median over rounds of the ratio within a round."""
    return compute_median_ratio(ours.per_cpu_second, peer.per_cpu_second)


def compute_median_ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def run_requested_rounds(measure: Callable[[], dict], notes: str) -> None:
    """Called in the contestant's process: send the notes, then one result per line of standard input until it ends."""
    with os.fdopen(int(os.environ[RESULTS_VARIABLE]), "w") as results:
        print(json.dumps({"notes": notes}), file=results, flush=True)
        for _ in sys.stdin:
            print(json.dumps(measure()), file=results, flush=True)
