"""Signals that stop a run: SIGTERM, SIGINT, SIGHUP, and SIGUSR1, which Slurm sends some time before a job's time limit.

A rank of a training finishes its step, saves and exits with EXIT_RESUME. On a rank, before torch is imported:

    stop = StopRequest()
    stop.start()                            # before `defer` a signal ends the process at once: there is nothing to save
    stop.defer(timeout_seconds=600)         # from here on the training loop reads `stop.is_requested` after each step

In the launcher and the supervisor, which pass signals on to the ranks:

    with StopSignals(relayed_by=os.getppid()) as signals:
        number = signals.wait(seconds=0.1)  # a signal to pass on, or None
        signals.is_urgent                   # True after a second SIGTERM or SIGINT: end at once

The signals are blocked, and a thread reads them from the kernel's queue even while the main thread is busy. Child processes inherit
the blocked signals. A signal that was ignored before (nohup, a background job of a shell script) stays ignored.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import FrameType, TracebackType

from neox_code.errors import EXIT_RESUME

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run after its current step. A second signal ends the run at once."""

STOP_SIGNALS = (*ENDING_SIGNALS, signal.SIGUSR1)

ECHO_SECONDS = 1.0
"""Seconds after a first signal in which further signals count as the same request: `timeout` signals its child twice, and a
scheduler signals every process."""


class StopSignals:
    """The signals that this process receives within the `with` block.

    `relayed_by` is the id of the process that passes signals on to this process. Signals from it are counted separately from direct
    signals, because a signal to all processes of a run arrives twice: directly, and from that process.
    """

    def __init__(self, signals: Sequence[signal.Signals] = STOP_SIGNALS, relayed_by: int | None = None) -> None:
        self.signals = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
        self.relayed_by = relayed_by
        self.received: signal.Signals | None = None
        self.is_urgent = False
        self.first_seconds: dict[bool, float] = {}
        self.taken_elsewhere: deque[int] = deque()
        """Signals received by older threads. A thread that was started before this object blocks signals does not block them."""

    def __enter__(self) -> "StopSignals":
        self.old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        self.old_handlers = {number: signal.signal(number, self.handle_signal) for number in self.signals}
        return self

    def handle_signal(self, number: int, frame: FrameType | None) -> None:
        self.taken_elsewhere.append(number)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.discard_pending()
        for number, handler in self.old_handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.old_mask)

    def next_signal(self, seconds: float) -> tuple[signal.Signals, bool] | None:
        """Return the next signal, and True if `relayed_by` sent it. Return None if no signal arrives within `seconds`."""
        if self.taken_elsewhere:
            return signal.Signals(self.taken_elsewhere.popleft()), False
        info = signal.sigtimedwait(self.signals, seconds)
        return None if info is None else (signal.Signals(info.si_signo), info.si_pid == self.relayed_by)

    def discard_pending(self) -> None:
        while self.next_signal(0) is not None:
            continue

    def wait(self, seconds: float) -> signal.Signals | None:
        """Wait up to `seconds` for a signal to pass on, and return it; None if no signal arrives or it repeats a request."""
        if not self.signals:
            time.sleep(seconds)
            return None
        found = self.next_signal(seconds)
        if found is None:
            return None
        number, is_relayed = found
        self.received = self.received or number
        if number not in ENDING_SIGNALS:
            return number
        if is_relayed not in self.first_seconds:
            is_first = not self.first_seconds
            self.discard_pending()
            self.first_seconds[is_relayed] = time.monotonic()
            return number if is_first else None
        if time.monotonic() > self.first_seconds[is_relayed] + ECHO_SECONDS:
            self.is_urgent = True
        return None


class StopRequest:
    """A request to stop, on one rank. The training loop combines `is_requested` over all ranks and sets `was_followed`."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.created = time.monotonic()
        """Time of the start of the process, in seconds of the monotonic clock."""
        self.was_followed = False
        """True if a signal, `exit_interval` or `exit_duration` ended the run before its last step."""
        self.timeout_seconds = 0.0
        """Seconds that the training loop has to end the run after a signal; 0 before training starts."""

    @property
    def is_requested(self) -> bool:
        return self.received is not None

    def start(self) -> None:
        """Block the signals and read them in a new thread. Call this first: threads started later then block the signals too."""
        self.signals = StopSignals(relayed_by=os.getppid()).__enter__()
        threading.Thread(target=self.read_signals, name="stop-signals", daemon=True).start()

    def defer(self, timeout_seconds: float) -> None:
        """From now on the training loop ends the run after a request. If it does not, end the process after `timeout_seconds`."""
        self.timeout_seconds = timeout_seconds

    def read_signals(self) -> None:
        """Read signals. End the process after a second signal, or when the time limit of a request has passed."""
        deadline = float("inf")
        while time.monotonic() < deadline and not self.signals.is_urgent:
            number = self.signals.wait(min(deadline - time.monotonic(), 3600.0))
            if number is None or self.received is not None:
                continue
            if not self.timeout_seconds:
                exit_with_message(f"{number.name} before the first step: there is nothing to save", EXIT_RESUME)
            self.received = number
            deadline = time.monotonic() + self.timeout_seconds
            write_line(f"{number.name}: the run stops after this step")
        assert self.received is not None
        how = "a second time" if self.signals.is_urgent else f", and the run did not end within {self.timeout_seconds:g} s"
        exit_with_message(f"{self.received.name} {how}: the process ends without saving", 128 + self.received)


def write_line(text: str) -> None:
    """Write to standard error on rank zero without Python's buffers, whose lock the main thread may hold."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"{text}\n".encode())


def exit_with_message(text: str, status: int) -> None:
    write_line(text)
    os._exit(status)


def ignore_group_signals(worker_index: int = 0) -> None:
    """Make a data-loading worker ignore signals to all processes of a run, because the rank needs the worker to finish the step.

    SIGTERM from the rank itself still ends the worker: multiprocessing ends its workers with it. Do nothing if the rank does not
    block the signals.
    """
    rank = multiprocessing.parent_process()
    if rank is not None and signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []):
        threading.Thread(target=exit_with_rank, args=(rank.pid,), name="stop-signals", daemon=True).start()


def exit_with_rank(rank: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != rank:
        continue
    sys.stderr.flush()
    os._exit(0)
