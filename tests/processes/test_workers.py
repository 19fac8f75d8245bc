import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neox_code.errors import DataError
from neox_code.processes.workers import Workers, count_available_cores

FINISHED_WITHIN_SECONDS = 10


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_ended(processes: list[int]) -> None:
    end = time.monotonic() + FINISHED_WITHIN_SECONDS
    while any(map(is_running, processes)):
        assert time.monotonic() < end, f"still running: {processes}"
        time.sleep(0.02)


@pytest.mark.parametrize("count", [1, 3])
def test_every_result_of_every_task_arrives_with_its_index(count):
    with Workers(count) as workers:
        results = list(workers.run(range, [(3,), (0,), (10, 12)]))
        again = list(workers.run(range, [(1,)]))
    assert sorted(results) == [(0, 0), (0, 1), (0, 2), (2, 10), (2, 11)]
    assert again == [(0, 0)]


def test_an_exception_of_a_task_is_raised_in_the_caller_with_its_traceback():
    with Workers(2) as workers, pytest.raises(ZeroDivisionError) as caught:
        list(workers.run(operator.truediv, [(1, 0)]))
    assert "in serve_tasks" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(("statement", "how"), [("os._exit(7)", "with status 7"), ("os.kill(os.getpid(), 9)", "by signal SIGKILL")])
def test_a_killed_worker_is_an_error(statement, how):
    with Workers(1) as workers, pytest.raises(DataError, match=rf"A worker process ended {how};.*--workers"):
        list(workers.run(exec, [(f"import os; {statement}",)]))


def test_late_results_of_a_failed_run_are_not_yielded_by_the_next_run():
    with Workers(2) as workers:
        with pytest.raises(ZeroDivisionError):
            list(workers.run(map, [(time.sleep, [600]), (operator.truediv, [1], [0])]))
        assert sorted(workers.run(range, [(2,), (5, 6)])) == [(0, 0), (0, 1), (1, 5)]


def test_an_exception_that_cannot_be_pickled_arrives_as_text():
    with Workers(1) as workers, pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        list(workers.run(exec, [(ODD,)]))


ODD = """
class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

raise Odd(1, 2)
"""


def test_leaving_the_block_ends_busy_workers_at_once():
    begin = time.monotonic()
    with Workers(2) as workers:
        results = workers.run(map, [(time.sleep, [0, 600]), (time.sleep, [0, 600])])
        assert next(results)[1] is None
        assert next(results)[1] is None
    assert time.monotonic() - begin < FINISHED_WITHIN_SECONDS


PARENT = """
import os, time
from neox_code.processes.workers import Workers

with Workers(2) as workers:
    running = workers.run(map, [(time.sleep, [0, 600]), (time.sleep, [0, 600])])
    next(running), next(running)
    print(*[process.pid for process in workers._processes.values()], flush=True)
    next(running)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_after_any_end_of_their_parent(ending):
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        workers = [int(number) for number in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        parent.send_signal(ending)
        parent.wait(FINISHED_WITHIN_SECONDS)
        wait_until_ended(workers)


def test_available_cores_respect_the_affinity_of_the_process():
    assert count_available_cores() == len(os.sched_getaffinity(0))
