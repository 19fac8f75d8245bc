"""A rank that hangs ends the run and is named, on ranks that no launcher watches; a rank that is slow for a reason does not."""

import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed_runs import server, train

from neox_code.launch.command import choose_port
from neox_code.launch.rank_process import run_and_exit
from neox_code.processes.procfs import find_state
from neox_code.training import loop

HANG_ITERATION = 4


def hang_asleep(seconds: float) -> None:
    time.sleep(1e6)


def hang_in_a_loop(seconds: float) -> None:
    while True:
        pass


def hang_in_select(seconds: float) -> None:
    select.select([os.pipe()[0]], [], [])


def hang_with_the_interpreter_locked(seconds: float) -> None:
    ctypes.PyDLL(None).sleep(10_000)


def stop(seconds: float) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def fail(seconds: float) -> None:
    raise ValueError("three is not four")


def wait_for_a_disk(seconds: float) -> None:
    """The kernel has a thread wait as for a disk until the process that it spawns has its files: here a pipe without writer."""
    libc, pipe = ctypes.CDLL(None), f"pipe{os.getpid()}"
    os.mkfifo(pipe)
    actions, words = ctypes.create_string_buffer(256), (ctypes.c_char_p * 2)(b"true", None)
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawn_file_actions_addopen(actions, 9, pipe.encode(), os.O_RDONLY, 0)
    if os.fork() == 0:
        time.sleep(seconds)
        os.open(pipe, os.O_WRONLY)
        os._exit(0)
    libc.posix_spawnp(ctypes.byref(ctypes.c_int()), b"true", actions, None, words, None)


def walk(seconds: float) -> None: ...


def before_batch(act, iteration, seconds, pause):
    """Has this process call `act` before it reads its batch of an iteration, and wait a little before each other."""
    run_one_step = loop.Run.run_one_step

    def disturbed(run, batches):
        time.sleep(pause)
        if run.state.iteration == iteration:
            Path("begun").write_text(str(time.time()))
            act(seconds)
        return run_one_step(run, batches)

    loop.Run.run_one_step = disturbed


def wait_before(name, seconds):
    """Has this process wait before it validates or saves."""
    real = loop.Watchdog.suspend

    def slow(watchdog, doing):
        real(watchdog, doing)
        if name in doing:
            time.sleep(seconds)

    loop.Watchdog.suspend = slow


def rank_main(rank, port, folder, disturb, arguments, file, keys):
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}{rank}", os.O_WRONLY | os.O_CREAT), number)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in settings.items()})
    os.environ.pop("NEOX_CODE_ERROR_FILE", None)
    if rank == 1:
        disturb(*arguments)
    run_and_exit(lambda argv: 0 * train([file], keys), [])


class TwoRanks:
    """Two ranks on their own, of which rank 1 is disturbed."""

    def __init__(self, folder, file, disturb, *arguments, **keys):
        port = choose_port(0, is_default=True)
        self.folder = folder
        self.ranks = [
            server.Process(target=rank_main, args=(rank, port, str(folder), disturb, arguments, str(file), keys)) for rank in (0, 1)
        ]
        for process in self.ranks:
            process.start()

    def wait_for_the_hang(self) -> float:
        """When it began."""
        until = time.monotonic() + 60
        while not (text := (self.folder / "begun").read_text() if (self.folder / "begun").exists() else ""):
            assert time.monotonic() < until, self.said(0)
            time.sleep(0.05)
        return float(text)

    def statuses(self, seconds: float = 60) -> list[int | None]:
        for process in self.ranks:
            process.join(seconds)
        return [process.exitcode for process in self.ranks]

    def said(self, rank: int) -> str:
        return (self.folder / f"err{rank}").read_text()

    def processes(self) -> list[int]:
        """The ranks and the processes that they have started."""
        own = [process.pid for process in self.ranks]
        children = [Path(f"/proc/{process}/task/{process}/children").read_text().split() for process in own]
        return own + [int(child) for found in children for child in found]


@pytest.fixture
def two_ranks(job, tmp_path) -> Iterator[object]:
    begun = []

    def begin(disturb, *arguments, **keys):
        begun.append(TwoRanks(tmp_path, job(eval_interval=1000), disturb, *arguments, **keys))
        return begun[-1]

    yield begin
    for process in begun[0].ranks:
        process.kill()
        process.join()


@pytest.mark.parametrize(
    ("act", "timeout_seconds"),
    [(hang_asleep, None), (hang_in_a_loop, 4), (hang_in_select, 4)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_rank_that_hangs_is_named_with_its_place_and_every_rank_ends(two_ranks, act, timeout_seconds):
    run = two_ranks(before_batch, act, HANG_ITERATION, 0, 0, hang_timeout_seconds=timeout_seconds, train_iters=50)
    begin = run.wait_for_the_hang()
    assert run.statuses() == [1, 1]
    assert time.time() - begin < 30
    (line,) = [line for line in run.said(0).splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: rank 1 on {socket.gethostname()} hangs at ")
    assert f"test_watchdog.py:{act.__code__.co_firstlineno + 1} ({act.__name__})" in line or "(hang_in_a_loop)" in line
    assert "rank 0" not in line
    assert f"in {act.__name__}\n" in run.said(1)


@pytest.mark.parametrize("act", [stop, hang_with_the_interpreter_locked])
def test_a_rank_without_a_running_thread_is_reported_and_killed(two_ranks, act):
    run = two_ranks(before_batch, act, HANG_ITERATION, 0, 0, hang_timeout_seconds=4, train_iters=50)
    begin = run.wait_for_the_hang()
    assert run.statuses() == [1, -signal.SIGKILL]
    assert time.time() - begin < 20
    assert f"error: rank 1 on {socket.gethostname()} hangs: it is stopped or killed" in run.said(0)
    assert ("it is stopped: SIGSTOP" in run.said(1)) == (act is stop)


@pytest.mark.parametrize("name", ["validation", "saving"])
def test_a_slow_validation_or_save_is_waited_for(two_ranks, tmp_path, name):
    run = two_ranks(wait_before, name, 8, hang_timeout_seconds=3, train_iters=6, save=str(tmp_path / "save"))
    assert run.statuses() == [0, 0], run.said(0)


def test_a_slow_disk_is_waited_for(two_ranks):
    run = two_ranks(before_batch, wait_for_a_disk, HANG_ITERATION, 9, 0, hang_timeout_seconds=3, train_iters=8)
    run.wait_for_the_hang()
    time.sleep(2)
    assert find_state(run.ranks[1].pid) == "D"
    assert run.statuses() == [0, 0], run.said(0)


def test_a_run_that_was_paused_continues(two_ranks):
    run = two_ranks(before_batch, walk, HANG_ITERATION, 0, 0.1, hang_timeout_seconds=3, train_iters=60)
    run.wait_for_the_hang()
    processes = run.processes()
    assert len(processes) == 4
    for number, seconds in ((signal.SIGSTOP, 10), (signal.SIGCONT, 0)):
        for process in processes:
            os.kill(process, number)
        time.sleep(seconds)
    assert run.statuses() == [0, 0], run.said(0)


def test_a_rank_that_fails_does_not_wait_for_the_others(two_ranks):
    run = two_ranks(before_batch, fail, HANG_ITERATION, 0, 0, train_iters=50)
    begin = run.wait_for_the_hang()
    assert run.statuses() == [1, 1]
    assert time.time() - begin < 10
    assert run.said(1).splitlines()[-1].endswith("ValueError: three is not four")
