"""Starting processes so that none outlives the others, and knowing why they ended.

The parent:

    status = run(command, environment)       # 0, 2 for the user's mistakes, 128 + n after signal n
    status = run(command, environment, stop_timeout=600)     # a training: EXIT_RESUME where it has saved after a signal

Every process that it starts, directly or through `launch.ranks`, begins with:

    sys.exit(run_rank(main, sys.argv[1:]))   # follow_launcher(), main, report_error()
    exit_rank(main, sys.argv[1:])            # the same, and the process ends at once

Whichever process of a run is killed, the others end:

    the supervisor     the launcher gets SIGKILL from the kernel, and then its ranks; ranks see on their own that it is gone
    the launcher       the ranks get SIGKILL from the kernel; the supervisor kills what was not listening yet
    a rank             the launcher ends the other ranks and itself

Linux only: the kernel's parent-death signal and /proc.
"""

import atexit
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from neox_code.errors import EXIT_RESUME, EXIT_USER_ERROR, LaunchError, print_error, remedy_sentence, run_command
from neox_code.launch.parent import die_with_parent
from neox_code.launch.stop_signals import ENDING_SIGNALS, STOP_SIGNALS, StopSignals

LAUNCHER_VARIABLE = "NEOX_CODE_LAUNCHER"
"""The supervisor's process number and start time, `PID:TICKS`."""

ERROR_VARIABLE = "NEOX_CODE_ERROR_FILE"
"""Where the first process that fails says why; its path is the run's own, and marks all processes of the run."""

LAUNCHED_BY = (LAUNCHER_VARIABLE, "CROSS_RANK", "TORCHELASTIC_RUN_ID")
"""Variables that only a launcher sets (this one, DeepSpeed's, torchrun): its ranks are to end with their parent."""

GRACE_SECONDS = 10.0
"""After a signal was handed on, until the processes are killed; a training has its `stop_timeout` besides."""

FAILING_SECONDS = 7.0
"""After a rank has left its error, until whatever still runs is killed: the launcher would wait for a deaf rank much longer."""

CONSEQUENCE_SECONDS = 3.0
"""A rank that has lost another one says so this much later: by then the launcher has heard of the cause and ended it."""

STOPPED_SECONDS = 10.0
"""A rank that is stopped (SIGSTOP) so long hangs: the others wait for it."""

WATCH_SECONDS = 0.5
POLL_SECONDS = 0.1


# ---- the parent


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, stop_timeout: float | None = None) -> int:
    """Run a command to its end and return an exit status; everything that it started has ended then.

    `environment` is added to this process's own. The command has no standard input. SIGINT, SIGTERM and SIGHUP are handed on;
    a second one, or GRACE_SECONDS, kills. With `stop_timeout` in seconds the command is a training, which ends with EXIT_RESUME
    after a signal: SIGUSR1 is handed on as well, and so long is waited for it. If a rank left its error, that is the last thing
    printed, and if the error is the user's, the status is 2. To be called in the main thread: parent-death signals come when the
    starting thread ends.
    """
    with StopSignals(ENDING_SIGNALS if stop_timeout is None else STOP_SIGNALS) as signals:
        ending = run_to_end(command, signals, environment, stop_timeout)
    if ending.status == EXIT_RESUME:
        by = f" by {ending.received.name}" if ending.received is not None else ""
        print(f"stopped{by}. Rerun the same command to resume (exit status {EXIT_RESUME}).", file=sys.stderr)
        return ending.status
    if ending.was_cut:
        name = signal.Signals(ending.status - 128).name
        print(f"stopped by {name}: all processes of the run have ended", file=sys.stderr)
        return ending.status
    return concluded(ending.status, ending.report)


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    status: int
    """As a shell would say it."""

    report: dict[str, Any] | None
    """The error that a rank left."""

    received: signal.Signals | None
    """The first signal that this process got."""

    was_cut: bool
    """True if it was ended because of the signal, and not by its own decision."""


def run_to_end(
    command: Sequence[str],
    signals: StopSignals,
    environment: Mapping[str, str] | None = None,
    stop_timeout: float | None = None,
) -> Ending:
    """`run` without output."""
    is_training = stop_timeout is not None
    with tempfile.TemporaryDirectory(prefix="neox-code-") as folder:
        error_file = Path(folder) / "error.json"
        marks = {LAUNCHER_VARIABLE: f"{os.getpid()}:{start_time(os.getpid())}", ERROR_VARIABLE: str(error_file)}
        child = start(command, {**os.environ, **(environment or {}), **marks}, signal.SIGKILL, signals if is_training else None)
        code = wait(child, signals, error_file, GRACE_SECONDS + (stop_timeout or 0.0))
        end_marked(f"{ERROR_VARIABLE}={error_file}")
        status, received = exit_status(code), signals.received
        was_cut = received is not None and (signals.is_urgent or not is_training or code == -signal.SIGKILL)
        if received is not None and was_cut:
            status = 128 + received
        return Ending(status, read_report(error_file), received, was_cut)


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    death_signal: signal.Signals,
    blocked: StopSignals | None = None,
) -> "subprocess.Popen[bytes]":
    """The command in a process group of its own, which gets `death_signal` when this process is gone.

    The stop signals are not blocked in it, except with `blocked`, for a program that reads them itself, so that none is lost.
    """
    parent = os.getpid()

    def prepare() -> None:
        die_with_parent(death_signal)
        if os.getppid() != parent:
            os._exit(1)
        if blocked is None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=prepare)


def wait(child: "subprocess.Popen[bytes]", signals: StopSignals, error_file: Path, stop_seconds: float) -> int:
    """The command's return code; it is killed where it outlasts a signal or a rank's error, or where a rank hangs."""
    deadline, failing_since = math.inf, math.inf
    stopped = StoppedRanks(f"{ERROR_VARIABLE}={error_file}")
    while (code := child.poll()) is None:
        number = signals.look(POLL_SECONDS)
        now = time.monotonic()
        if number is not None:
            deadline = min(deadline, now + stop_seconds)
            child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
        if failing_since == math.inf and error_file.exists():
            failing_since = now
        if signals.is_urgent or now > deadline or now > failing_since + FAILING_SECONDS:
            child.kill()
        elif failing_since == math.inf and signals.received is None and (message := stopped.message(now)) is not None:
            leave_report(error_file, message)
            child.kill()
    return code


class StoppedRanks:
    """Looks every two seconds for ranks that are stopped."""

    def __init__(self, mark: str) -> None:
        self.mark = mark.encode()
        self.since: dict[int, float] = {}
        self.last_look = time.monotonic()

    def message(self, now: float) -> str | None:
        """What to say of a rank that has been stopped too long."""
        if now < self.last_look + 2:
            return None
        if now > self.last_look + STOPPED_SECONDS / 2:  # this process was stopped as well: a pause of the whole run
            self.since = {}
        self.last_look = now
        self.since = {process: self.since.get(process, now) for process in processes() if self.is_stopped(process)}
        for process, since in self.since.items():
            if now >= since + STOPPED_SECONDS - 2:
                rank = next(iter(value_of(b"RANK", environment_of(process))), "?")
                return (
                    f"rank {rank} hangs: its process {process} on {socket.gethostname()} was stopped (SIGSTOP). "
                    "Find what stopped it, and rerun the same command."
                )
        return None

    def is_stopped(self, process: int) -> bool:
        return state_of(process) == "T" and self.mark in environment_of(process)


def value_of(name: bytes, environment: Sequence[bytes]) -> list[str]:
    return [entry.partition(b"=")[2].decode() for entry in environment if entry.startswith(name + b"=")]


def state_of(process: int) -> str | None:
    """The letter that ps shows; None for a process that has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None


def end_marked(mark: str) -> None:
    """Kills every process whose environment holds `NAME=VALUE`, and waits until none is left."""
    give_up = time.monotonic() + GRACE_SECONDS
    while marked := [process for process in processes() if mark.encode() in environment_of(process)]:
        if time.monotonic() > give_up:
            raise LaunchError(f"process {marked[0]} cannot be killed: it waits for a device or a disk. Look at it with ps.")
        for process in marked:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def environment_of(process: int) -> list[bytes]:
    """A process's variables; none for one that has ended or is another user's."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def exit_status(code: int) -> int:
    """A return code as a shell reports it.

    >>> exit_status(3), exit_status(-9)
    (3, 137)
    """
    return 128 - code if code < 0 else code


def concluded(status: int, report: Mapping[str, Any] | None) -> int:
    """Prints why a run failed, and returns its status."""
    sentence = signal_sentence(status)
    if report is not None and not (report["is_consequence"] and sentence):
        print_error(report["message"])
        return EXIT_USER_ERROR if report["is_users"] else status or 1
    if sentence is not None:
        print_error(sentence)
    return status


def signal_sentence(status: int) -> str | None:
    """What to say of a status that means a signal."""
    if status <= 128 or status - 128 not in signal.Signals.__members__.values():
        return None
    name = signal.Signals(status - 128).name
    return f"a process was ended by {name}. {SIGNAL_REMEDIES.get(name, 'Its output above may name the reason.')}"


CRASHED = (
    "A library crashed: its message may stand above, and PYTHONFAULTHANDLER=1 adds the stack trace. A rerun crashes again unless a "
    "device or its driver was the cause."
)
STOPPED = "Another process or a scheduler stopped it: rerun the same command."

SIGNAL_REMEDIES = {
    **dict.fromkeys(("SIGSEGV", "SIGABRT", "SIGFPE", "SIGTRAP", "SIGSYS"), CRASHED),
    **dict.fromkeys(("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"), STOPPED),
    "SIGILL": "The CPU lacks an instruction that a library was compiled for: install builds of torch and DeepSpeed for this CPU.",
    "SIGXCPU": "The limit of CPU time (ulimit -t) was reached: raise it, and rerun the same command.",
    "SIGKILL": "If nobody killed it, memory ran out: use a smaller train_micro_batch_size_per_gpu or checkpoint_activations.",
    "SIGBUS": "Shared memory or the disk may be full: in Docker, give the container a larger --shm-size.",
}


# ---- the processes that are started


def run_rank(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """`main` in a process that ends with its launcher, and whose error the supervisor prints last; returns the exit status."""
    follow_launcher()

    def reporting(words: Sequence[str]) -> int:
        try:
            return main(words)
        except Exception as error:
            if remedy_sentence(error) is None and is_lost_peer(str(error)):
                time.sleep(CONSEQUENCE_SECONDS)
            if report_error(error) and remedy_sentence(error) is not None:
                return EXIT_USER_ERROR
            raise

    return run_command(reporting, argv)


def exit_rank(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> NoReturn:
    """`run_rank` as a process's last call, which the interpreter's own end, seconds with torch, does not follow.

    Exit functions are called where the rank has ended well; after an error they might wait for other ranks.
    """
    try:
        status = run_rank(main, argv)
    except Exception:
        sys.excepthook(*sys.exc_info())
        status = 1
    if status in (0, EXIT_RESUME):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def follow_launcher() -> None:
    """Ends this process when the process that launched it, or the run's supervisor, is gone.

    Does nothing in a process that no launcher started.
    """
    if not any(name in os.environ for name in LAUNCHED_BY):
        return
    parent = os.getppid()
    die_with_parent(signal.SIGKILL)
    supervisor, _, started = os.environ.get(LAUNCHER_VARIABLE, "").partition(":")

    def is_alone() -> bool:
        return os.getppid() != parent or (bool(supervisor) and start_time(int(supervisor)) != started)

    def watch() -> None:
        while not is_alone():
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="follow-launcher", daemon=True).start()


def start_time(process: int) -> str | None:
    """When a process started, in clock ticks since boot, which tells it from a later one of the same number; None if it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    return None if state in "ZX" else numbers[18]


def report_error(error: BaseException) -> bool:
    """Leaves the error for the supervisor to print; returns whether it was the first (the others are mostly its consequences)."""
    path = os.environ.get(ERROR_VARIABLE)
    if path is None:
        return False
    sentence = remedy_sentence(error)
    rank = os.environ.get("RANK")
    message = sentence or f"{f'rank {rank}: ' if rank else ''}{last_words(error)}"
    return leave_report(Path(path), message, sentence is not None)


LOST_PEER = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "Timed out waiting", "timed out")
"""What gloo, NCCL and the store say on a rank that has lost another one."""


def is_lost_peer(message: str) -> bool:
    return any(words in message for words in LOST_PEER)


def leave_report(path: Path, message: str, is_users: bool = False, is_consequence: bool | None = None) -> bool:
    """Writes an error for the supervisor, unless there is one; returns whether it was the first.

    The consequence of another rank's end is a lost peer; by default the message's words tell.
    """
    if is_consequence is None:
        is_consequence = not is_users and is_lost_peer(message)
    part = Path(f"{path}.{os.getpid()}")
    report = {"message": message, "is_users": is_users, "is_consequence": is_consequence}
    try:
        part.write_text(json.dumps(report), encoding="utf-8")
        os.link(part, path)
    except OSError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def last_words(error: BaseException) -> str:
    """An exception's last line, and the place where it was raised."""
    line = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{line} (at {frames[-1].filename}:{frames[-1].lineno})" if frames else line


def read_report(path: Path) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return report
