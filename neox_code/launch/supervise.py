"""Run a command, end all processes that it started together, and report the reason of a failure.

In the parent:

    status = run(command, environment)       # 0; 2 for the user's mistakes; 128 + N after signal N
    status = run(command, environment, stop_timeout=600)     # training: EXIT_RESUME if a signal ended it after a save

Every process that it starts, directly or through `launch.ranks`, runs its main function by `launch.rank_process`.

If one process of a run is killed, the others end:

    the supervisor     the kernel kills the launcher and then its ranks; ranks also check that the supervisor runs
    the launcher       the kernel kills the ranks; the supervisor kills processes that were just starting
    a rank             the launcher ends the other ranks and itself

Linux only: it uses the kernel's parent-death signal and /proc.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neox_code.errors import EXIT_RESUME, EXIT_USER_ERROR, print_error
from neox_code.launch.rank_process import LAUNCHER_VARIABLE
from neox_code.launch.stop_signals import ENDING_SIGNALS, STOP_SIGNALS, StopSignals
from neox_code.processes.error_report import ERROR_VARIABLE, read_report, write_report
from neox_code.processes.parent import die_with_parent
from neox_code.processes.procfs import (
    find_state,
    find_values,
    kill_marked_processes,
    list_processes,
    read_environment,
    read_start_time,
)

GRACE_SECONDS = 10.0
"""Seconds from passing a signal on until the processes are killed; for training, `stop_timeout` is added."""

FAILING_SECONDS = 7.0
"""Seconds from a rank's error report until all other processes are killed. The launcher alone would wait much longer for a rank
that ignores SIGTERM."""

STOPPED_SECONDS = 10.0
"""Seconds after which a stopped rank (SIGSTOP) counts as hanging, because the other ranks wait for it."""

POLL_SECONDS = 0.1


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, stop_timeout: float | None = None) -> int:
    """Run a command and all processes that it starts to their end; return an exit status.

    `environment` is added to this process's own. The command has no standard input. SIGINT, SIGTERM and SIGHUP are passed on. The
    command is killed after a second signal, or GRACE_SECONDS after the first. `stop_timeout` (seconds) is set for training, which
    ends with EXIT_RESUME after a signal: SIGUSR1 is passed on as well, and the command has this much more time to save. If a rank
    wrote an error report, its message is printed last; the status is 2 if the error is the user's. Call this function in the main
    thread, because the kernel sends parent-death signals when the starting thread ends.
    """
    return run_and_report(command, environment, stop_timeout).status


def run_and_report(
    command: Sequence[str], environment: Mapping[str, str] | None = None, stop_timeout: float | None = None
) -> "Ending":
    """Run a command as `run` does; return how it ended, with the exit status that `run` returns."""
    with StopSignals(ENDING_SIGNALS if stop_timeout is None else STOP_SIGNALS) as signals:
        ending = run_to_end(command, signals, environment, stop_timeout)
    if ending.status == EXIT_RESUME:
        by = f" by {ending.received.name}" if ending.received is not None else ""
        print(f"stopped{by}. Rerun the same command to resume (exit status {EXIT_RESUME}).", file=sys.stderr)
        return ending
    if ending.was_killed:
        name = signal.Signals(ending.status - 128).name
        print(f"stopped by {name}: all processes of the run have ended", file=sys.stderr)
        return ending
    return replace(ending, status=report_failure(ending.status, ending.report))


@dataclass(frozen=True)
class Ending:
    status: int
    """Exit status of the command, as a shell reports it."""

    report: dict[str, Any] | None
    """The error report of a rank, if there is one."""

    received: signal.Signals | None
    """The first signal that this process received."""

    was_killed: bool
    """True if the command was killed and did not end by itself."""


def run_to_end(
    command: Sequence[str],
    signals: StopSignals,
    environment: Mapping[str, str] | None = None,
    stop_timeout: float | None = None,
) -> Ending:
    """Run a command as `run` does, without printing; return how it ended."""
    is_training = stop_timeout is not None
    with tempfile.TemporaryDirectory(prefix="neox-code-") as folder:
        error_file = Path(folder) / "error.json"
        variables = {LAUNCHER_VARIABLE: f"{os.getpid()}:{read_start_time(os.getpid())}", ERROR_VARIABLE: str(error_file)}
        child = start(command, {**os.environ, **(environment or {}), **variables}, signal.SIGKILL, signals if is_training else None)
        code = wait(child, signals, error_file, GRACE_SECONDS + (stop_timeout or 0.0))
        kill_marked_processes(f"{ERROR_VARIABLE}={error_file}")
        status, received = convert_exit_status(code), signals.received
        was_killed = received is not None and (signals.is_urgent or not is_training or code == -signal.SIGKILL)
        if received is not None and was_killed:
            status = 128 + received
        return Ending(status, read_report(error_file), received, was_killed)


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    death_signal: signal.Signals,
    blocked: StopSignals | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a command in a process group of its own. The kernel sends `death_signal` to the command when this process ends.

    The stop signals are unblocked in the command. With `blocked` they stay blocked, for a program that waits for blocked signals.
    """
    parent = os.getpid()

    def prepare_child() -> None:
        die_with_parent(death_signal)
        if os.getppid() != parent:
            os._exit(1)
        if blocked is None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=prepare_child)


def wait(child: "subprocess.Popen[bytes]", signals: StopSignals, error_file: Path, stop_seconds: float) -> int:
    """Wait for the command and return its return code.

    The command is killed if it runs longer than `stop_seconds` after a signal or FAILING_SECONDS after a rank's error, or if a rank
    is stopped.
    """
    deadline, failing_since = math.inf, math.inf
    stopped = StoppedRanks(f"{ERROR_VARIABLE}={error_file}")
    while (code := child.poll()) is None:
        number = signals.wait(POLL_SECONDS)
        now = time.monotonic()
        if number is not None:
            deadline = min(deadline, now + stop_seconds)
            child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
        if failing_since == math.inf and error_file.exists():
            failing_since = now
        if signals.is_urgent or now > deadline or now > failing_since + FAILING_SECONDS:
            child.kill()
        elif failing_since == math.inf and signals.received is None and (message := stopped.find_failure(now)) is not None:
            write_report(error_file, message)
            child.kill()
    return code


class StoppedRanks:
    """A check, every two seconds, for ranks that are stopped (SIGSTOP)."""

    def __init__(self, mark: str) -> None:
        self.mark = mark.encode()
        self.since: dict[int, float] = {}
        self.last_check = time.monotonic()

    def find_failure(self, now: float) -> str | None:
        """Return a message about a rank that has been stopped for STOPPED_SECONDS; None if there is none."""
        if now < self.last_check + 2:
            return None
        if now > self.last_check + STOPPED_SECONDS / 2:  # this process was stopped too: the whole run was paused
            self.since = {}
        self.last_check = now
        stopped = [one for one in list_processes() if find_state(one) == "T" and self.mark in read_environment(one)]
        self.since = {process: self.since.get(process, now) for process in stopped}
        for process, since in self.since.items():
            if now >= since + STOPPED_SECONDS - 2:
                rank = next(iter(find_values(b"RANK", read_environment(process))), "?")
                return (
                    f"rank {rank} hangs: its process {process} on {socket.gethostname()} was stopped (SIGSTOP). "
                    "Find what stopped it. Rerun the same command to resume."
                )
        return None


def convert_exit_status(code: int) -> int:
    """Return the exit status that a shell reports for a return code of subprocess.

    >>> convert_exit_status(3), convert_exit_status(-9)
    (3, 137)
    """
    return 128 - code if code < 0 else code


def report_failure(status: int, report: Mapping[str, Any] | None) -> int:
    """Print the reason if the run failed; return its exit status."""
    sentence = format_signal(status)
    if report is not None and not (report["is_consequence"] and sentence):
        print_error(report["message"])
        return EXIT_USER_ERROR if report["is_users"] else status or 1
    if sentence is not None:
        print_error(sentence)
    return status


def format_signal(status: int) -> str | None:
    """Return cause and remedy if a signal caused the exit status; None for other statuses."""
    if status <= 128 or status - 128 not in signal.Signals.__members__.values():
        return None
    name = signal.Signals(status - 128).name
    return f"a process was ended by {name}. {SIGNAL_REMEDIES.get(name, 'Its output above may name the reason.')}"


CRASHED = (
    "A library crashed. Its message may stand above; PYTHONFAULTHANDLER=1 adds the stack trace. Rerun the same command only if a "
    "device or its driver was the cause: otherwise it crashes again."
)
STOPPED = "Another process or a scheduler stopped it. Rerun the same command to resume."

SIGNAL_REMEDIES = {
    **dict.fromkeys(("SIGSEGV", "SIGABRT", "SIGFPE", "SIGTRAP", "SIGSYS"), CRASHED),
    **dict.fromkeys(("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"), STOPPED),
    "SIGILL": "The CPU lacks an instruction that a library was compiled for: install builds of torch and DeepSpeed for this CPU.",
    "SIGXCPU": "The limit of CPU time (ulimit -t) was reached: raise it. Rerun the same command to resume.",
    "SIGKILL": "If nobody killed it, memory ran out: use a smaller train_micro_batch_size_per_gpu or checkpoint_activations.",
    "SIGBUS": "Shared memory or the disk may be full: in Docker, give the container a larger --shm-size.",
}
