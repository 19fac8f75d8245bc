"""Signals to a run in miniature: its ranks stop to be resumed, whoever is signaled; nothing outlives a second signal."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from neox_code.errors import EXIT_RESUME
from neox_code.launch.stop_signals import ECHO_SECONDS

ROOT = Path(__file__).parents[2]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]


def send(processes: dict[str, int], target: str, number: int) -> None:
    for name, process in processes.items():
        if target in (name, "all"):
            with suppress(ProcessLookupError):  # ended by what the first of them handed on
                os.kill(process, number)


@pytest.mark.parametrize(
    ("target", "number"),
    [
        *(("supervisor", number) for number in SIGNALS),
        *(("all", number) for number in SIGNALS),
        ("launcher", signal.SIGTERM),
        ("rank0", signal.SIGUSR1),
        ("rank1", signal.SIGINT),
    ],
)
def test_a_signal_to_any_process_stops_all_ranks_with_the_status_to_resume(chain, left_over, number, target):
    run = chain.start("stay")
    processes = chain.processes()
    send(processes, target, number)
    errors = run.communicate(timeout=600)[1]
    assert run.returncode == EXIT_RESUME == 75
    assert left_over(processes, seconds=0) == []
    assert errors.splitlines()[-1].endswith("Rerun the same command to resume (exit status 75).")
    assert "Traceback" not in errors


@pytest.mark.parametrize("target", ["supervisor", "rank1", "all"])
def test_before_the_first_step_a_signal_ends_the_run_at_once_with_the_same_status(chain, left_over, target):
    run = chain.start("starting")
    processes = chain.processes()
    send(processes, target, signal.SIGTERM)
    errors = run.communicate(timeout=600)[1]
    assert run.returncode == EXIT_RESUME
    assert "before the first step: there is nothing to save" in errors
    assert left_over(processes, seconds=0) == []


def wait_for(*paths: Path) -> None:
    until = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until, paths
        time.sleep(0.02)


def test_repeated_signals_do_not_interrupt_a_save(chain):
    """`timeout` sends its signal to its child and then to the group; a scheduler signals every process."""
    run = chain.start("stay", "slow-save")
    processes = chain.processes()
    for _ in range(2):
        send(processes, "all", signal.SIGTERM)
    wait_for(chain.folder / "saving0", chain.folder / "saving1")
    send(processes, "all", signal.SIGUSR1)
    time.sleep(2 * ECHO_SECONDS)
    send(processes, "all", signal.SIGUSR1)  # a warning, however often it comes, cuts nothing
    time.sleep(0.5)
    assert run.poll() is None
    (chain.folder / "saved").touch()
    assert run.wait(60) == EXIT_RESUME


def test_after_a_warning_the_first_sigterm_still_lets_the_save_end(chain):
    run = chain.start("stay", "slow-save")
    processes = chain.processes()
    send(processes, "supervisor", signal.SIGUSR1)
    wait_for(chain.folder / "saving0", chain.folder / "saving1")
    time.sleep(2 * ECHO_SECONDS)
    send(processes, "supervisor", signal.SIGTERM)
    time.sleep(0.5)
    assert run.poll() is None
    (chain.folder / "saved").touch()
    assert run.wait(60) == EXIT_RESUME


@pytest.mark.parametrize(
    ("target", "number", "behavior"),
    [
        ("supervisor", signal.SIGINT, "slow-save"),
        ("supervisor", signal.SIGTERM, "hang"),
        ("rank1", signal.SIGTERM, "hang"),
        ("all", signal.SIGTERM, "hang"),
    ],
)
def test_a_second_signal_ends_the_run_at_once(chain, left_over, number, target, behavior):
    run = chain.start("stay", behavior)
    processes = chain.processes()
    send(processes, target, number)
    time.sleep(2 * ECHO_SECONDS)
    assert run.poll() is None
    send(processes, target, number)
    assert run.wait(60) == 128 + number
    assert left_over(processes, seconds=5) == []


def test_ranks_that_ignore_a_signal_end_after_the_second(chain, left_over):
    run = chain.start("deaf")
    processes = chain.processes()
    os.kill(processes["supervisor"], signal.SIGINT)
    time.sleep(2 * ECHO_SECONDS)
    assert run.poll() is None
    os.kill(processes["supervisor"], signal.SIGINT)
    assert run.wait(30) == 130
    assert left_over(processes, seconds=0) == []


@pytest.mark.parametrize("behavior", [("rank-timeout",), ("0.5",)])
def test_a_run_that_does_not_end_in_time_is_killed(chain, left_over, behavior):
    """Either a rank's own limit or, ten seconds later, its supervisor's."""
    run = chain.start("stay", "hang", *behavior)
    processes = chain.processes()
    send(processes, "supervisor", signal.SIGTERM)
    assert run.wait(60) == 143
    assert left_over(processes, seconds=0) == []


def test_ignored_signals_stay_ignored(tmp_path):
    code = (
        "import os, signal; from neox_code.launch.stop_signals import StopSignals\n"
        "with StopSignals() as signals:\n"
        "    os.kill(os.getpid(), signal.SIGHUP); print(signals.wait(0.2))\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print(signals.wait(5).name, signals.is_urgent)\n"
    )
    command = ["nohup", sys.executable, "-c", code]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.stdout == "None\nSIGTERM False\n"


HANDLERS = """
import os, signal, sys, threading, time
from neox_code.launch.stop_signals import StopSignals

if "with a thread" in sys.argv:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # it does not block the signals, and gets them
before = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, [])
with StopSignals() as signals:
    os.kill(os.getpid(), signal.SIGUSR1)
    while (number := signals.wait(0.1)) is None:
        continue
    print(number.name, signals.received.name)
    os.kill(os.getpid(), signal.SIGTERM)  # left over
assert before == (signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, []))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("thread", ["with a thread", "without"])
def test_signals_are_handled_as_before_once_the_block_ends(thread):
    command = [sys.executable, "-c", HANDLERS, thread]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "SIGUSR1 SIGUSR1\n")
    assert ended.stderr.endswith("KeyboardInterrupt\n")


def test_the_command_timeout_lets_a_run_stop_by_itself(chain):
    """GNU timeout signals its child, and then its own process group, the child included, with the same signal."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{chain.folder}"}
    command = ["timeout", "600", sys.executable, "supervisor.py", "stay"]
    run = subprocess.Popen(command, cwd=chain.folder, env=environment, stderr=subprocess.PIPE, text=True)
    chain.processes()
    run.send_signal(signal.SIGTERM)
    errors = run.communicate(timeout=600)[1]
    assert errors.splitlines()[-1].startswith("stopped by SIGTERM. Rerun the same command to resume")
    assert run.returncode == EXIT_RESUME
