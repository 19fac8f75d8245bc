"""Starting processes so that none outlives the others, and knowing why they ended.

The parent:

    status = run(command, environment)       # 0, 2 for the user's mistakes, 128 + n after signal n

Every process that it starts, directly or through DeepSpeed's launcher, begins with:

    sys.exit(run_rank(main, sys.argv[1:]))   # follow_launcher(), main, report_error()
    exit_rank(main, sys.argv[1:])            # the same, and the process ends at once

Whichever process of a run is killed, the others end:

    the supervisor     the launcher gets SIGTERM from the kernel and ends its ranks; ranks see on their own that it is gone
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
from types import FrameType, TracebackType
from typing import Any, NoReturn

from neox_code.errors import EXIT_USER_ERROR, LaunchError, print_error, remedy_sentence, run_command
from neox_code.launch.parent import die_with_parent

LAUNCHER_VARIABLE = "NEOX_CODE_LAUNCHER"
"""The supervisor's process number and start time, `PID:TICKS`."""

ERROR_VARIABLE = "NEOX_CODE_ERROR_FILE"
"""Where the first process that fails says why; its path is the run's own, and marks all processes of the run."""

LAUNCHED_BY = (LAUNCHER_VARIABLE, "CROSS_RANK", "TORCHELASTIC_RUN_ID")
"""Variables that only a launcher sets (this one, DeepSpeed's, torchrun): its ranks are to end with their parent."""

GRACE_SECONDS = 10.0
"""After a signal was handed on, until the processes are killed."""

FAILING_SECONDS = 7.0
"""After a rank has left its error, until whatever still runs is killed: the launcher would wait for a deaf rank much longer."""

CONSEQUENCE_SECONDS = 3.0
"""A rank that has lost another one says so this much later: by then the launcher has heard of the cause and ended it."""

STOPPED_SECONDS = 10.0
"""A rank that is stopped (SIGSTOP) so long hangs: the others wait for it."""

WATCH_SECONDS = 0.5
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heard_signals() -> list[signal.Signals]:
    """Those of STOPPING_SIGNALS that whoever started this process left to be heard: nohup and `&` have some ignored."""
    return [number for number in STOPPING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


# ---- the parent


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Runs a command to its end and returns an exit status; everything that it started has ended then.

    `environment` is added to this process's own. The command has no standard input. SIGINT, SIGTERM and SIGHUP are handed on;
    a second one, or ten seconds, kills. If a rank left its error, that is the last thing printed, and if the error is the user's,
    the status is 2. To be called in the main thread: parent-death signals come when the starting thread ends.
    """
    ending = run_to_end(command, environment)
    if ending.received is not None:
        print(f"stopped by {ending.received.name}: all processes of the run have ended", file=sys.stderr)
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
    """The signal that this process got, which stopped the run."""


def run_to_end(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ending:
    """`run` without a word."""
    with tempfile.TemporaryDirectory(prefix="neox-code-") as folder:
        error_file = Path(folder) / "error.json"
        marks = {LAUNCHER_VARIABLE: f"{os.getpid()}:{start_time(os.getpid())}", ERROR_VARIABLE: str(error_file)}
        with Relay() as relay:
            child = start(command, {**os.environ, **(environment or {}), **marks})
            relay.attach(child)
            code = wait(child, relay, error_file)
            end_marked(f"{ERROR_VARIABLE}={error_file}")
        status = exit_status(code) if relay.received is None else 128 + relay.received
        return Ending(status, read_report(error_file), relay.received)


def start(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """The command in a process group of its own, which gets SIGTERM when this process is gone."""
    parent = os.getpid()

    def end_with_parent() -> None:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=end_with_parent)


class Relay:
    """While entered, hands stopping signals on to a child; ignored ones (nohup) stay ignored."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.received: signal.Signals | None = None
        self.deadline = math.inf
        self.handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Relay":
        self.handlers = {number: signal.signal(number, self.receive) for number in heard_signals()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def attach(self, child: "subprocess.Popen[bytes]") -> None:
        self.child = child
        if self.received is not None:
            child.send_signal(self.received)

    def receive(self, number: int, frame: FrameType | None) -> None:
        is_first = self.received is None
        self.received = self.received or signal.Signals(number)
        self.deadline = time.monotonic() + GRACE_SECONDS if is_first else 0.0
        if self.child is not None and is_first:
            self.child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


def wait(child: "subprocess.Popen[bytes]", relay: Relay, error_file: Path) -> int:
    """The command's return code; it is killed where it outlasts a signal or a rank's error, or where a rank hangs."""
    failing_since: float | None = None
    stopped = StoppedRanks(f"{ERROR_VARIABLE}={error_file}")
    while True:
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if failing_since is None and error_file.exists():
                failing_since = now
            if now > relay.deadline or (failing_since is not None and now > failing_since + FAILING_SECONDS):
                child.kill()
            elif failing_since is None and relay.received is None and (message := stopped.message(now)) is not None:
                leave_report(error_file, message)
                child.kill()


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
                    "Run the same command again."
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
    """A return code as a shell would say it. DeepSpeed's launcher exits with its rank's negative code, which wraps at 256.

    >>> exit_status(3), exit_status(-9), exit_status(256 - 9)
    (3, 137, 137)
    """
    if code < 0:
        return 128 - code
    return 128 + 256 - code if 256 - signal.SIGRTMIN < code < 255 else code


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
    return f"a process was ended by {name}. {SIGNAL_REMEDIES.get(name, 'Run the command again.')}"


SIGNAL_REMEDIES = {
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
    if status == 0:
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
