"""End a run in which a rank hangs: a thread in every rank detects that no step has ended for too long.

    with Watchdog(config.parallelism.hang_timeout_seconds, grid) as watchdog:
        watchdog.suspend("compiling")    # the next operation has no time limit
        ...
        watchdog.record_progress()                  # a step or batch has ended; the next is due

When a step is overdue, every rank reads the heartbeats of all ranks. A heartbeat is missing, or shows that the rank waits for other
ranks, or shows the line where the rank hangs. Each rank reports this and exits, even while its training thread is blocked. Then the
launcher ends the remaining processes. A run is not ended while a rank saves, waits for a disk or has just finished a step, or after
the whole run was paused (SIGSTOP, a suspended laptop). A stopped process cannot end itself, so the `sentinel` process kills it.
"""

import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from neox_code.errors import print_error
from neox_code.parallel.grid import ParallelGrid
from neox_code.processes.error_report import ERROR_VARIABLE, write_report
from neox_code.watchdog import sentinel
from neox_code.watchdog.heartbeats import Heartbeats, RankState
from neox_code.watchdog.thread_state import format_place, is_waiting_for_disk, is_waiting_for_ranks, read_stack

SHORTEST_LIMIT_SECONDS = 15.0
"""Minimum of a step's automatic time limit, in seconds."""

LONGEST_STEP_FACTOR = 3.0
SPARE_SECONDS = 5.0
"""The automatic limit is LONGEST_STEP_FACTOR times the longest of the last RECENT_STEPS steps, plus SPARE_SECONDS."""

RECENT_STEPS = 100
WARM_UP_STEPS = 2
"""Number of first steps without a time limit, because they also build kernels and allocate buffers."""

POLL_SECONDS = 0.5
PAUSE_SECONDS = 5.0
"""Seconds of delay of a poll from which this process counts as paused."""

SILENCE_SECONDS = 3.0
"""A rank starts to read the heartbeats this many seconds before its step is overdue. A rank counts as silent if it has sent no
heartbeat for this time."""

PLACE_SECONDS = 2.0
"""Age of a step in seconds from which heartbeats contain the line that the thread runs. Reading this line takes some time."""

DISK_SECONDS = 5.0
"""Seconds after a wait for a disk during which a thread still counts as reading or writing."""

EXIT_DELAY_SECONDS = 1.0
"""Seconds between the report and the end of the process, because the other ranks need torch's store for their own reports."""

SENTINEL_SECONDS = 4.0
"""Seconds that the sentinel adds to the time limit, so that the ranks' own reports come first."""

MOST_NAMED = 4
"""Maximum number of ranks that a message names."""


class Watchdog:
    """Watch the thread that enters the `with` block, and end the run if a rank hangs."""

    is_due: bool
    since: float

    def __init__(self, timeout_seconds: float | None, grid: ParallelGrid) -> None:
        self.timeout, self.rank = timeout_seconds, grid.rank
        self.is_on = grid.world_size > 1 if timeout_seconds is None else timeout_seconds > 0
        self.recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self.beats = 0
        self.sentinel: subprocess.Popen[bytes] | None = None
        self.suspend("starting")

    # ---- the watched thread

    def record_progress(self) -> None:
        """Record that a step or batch has ended. The next one must end within the time limit."""
        now = time.monotonic()
        was_due = self.is_due
        if was_due:
            self.recent.append(now - self.since)
        self.beats += 1
        self.since, self.is_due, self.doing = now, self.beats >= WARM_UP_STEPS, "a step"
        if self.is_due and not was_due:
            self.send_limit()

    def suspend(self, doing: str) -> None:
        """Allow the operation `doing` to take any time, until the next record_progress."""
        self.since, self.is_due, self.doing = time.monotonic(), False, doing
        self.send_limit()

    def __enter__(self) -> "Watchdog":
        if self.is_on:
            self.watched, self.native_id = threading.get_ident(), threading.get_native_id()
            self.last_disk_wait = self.reading_since = float("-inf")
            self.last_check = time.monotonic()
            self.heartbeats = Heartbeats(self.make_state)
            self.sentinel = start_sentinel(self.rank)
            self.leaving = threading.Event()
            self.thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)
            self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.is_on:
            self.suspend("ended")
            self.leaving.set()
            self.thread.join()
            self.heartbeats.close(self.make_state())

    # ---- the watching thread

    @property
    def limit_seconds(self) -> float:
        """The time in seconds that a step may take."""
        longest = max(list(self.recent), default=0.0)
        return self.timeout or max(SHORTEST_LIMIT_SECONDS, LONGEST_STEP_FACTOR * longest + SPARE_SECONDS)

    def watch(self) -> None:
        assert self.sentinel is not None
        with self.sentinel:
            try:
                while not self.leaving.wait(POLL_SECONDS):
                    self.send_limit()
                    self.check(time.monotonic())
            finally:
                self.sentinel.kill()

    def send_limit(self) -> None:
        """Send the current time limit to the sentinel.

        This is called twice a second, and at once when a limit begins or ends, because the next operation may block all other
        threads of this process.
        """
        if self.sentinel is None or self.sentinel.stdin is None or self.sentinel.stdin.closed:
            return
        timeout = self.limit_seconds + SENTINEL_SECONDS if self.is_due else 0.0
        try:
            self.sentinel.stdin.write(f"{timeout:.1f}\n".encode())
        except OSError:
            return  # the sentinel was killed; the rank runs without it

    def check(self, now: float) -> None:
        """Check the watched thread once; end the process if a rank hangs."""
        was_paused, self.last_check = now > self.last_check + PAUSE_SECONDS, now
        if is_waiting_for_disk(self.native_id):
            self.last_disk_wait = now
        if was_paused:
            self.since = now
        overdue = now - self.since - self.limit_seconds
        if was_paused or not self.is_due or overdue < -SILENCE_SECONDS:
            self.stop_reading()
        elif self.reading_since < self.since:
            self.reading_since = now
            self.heartbeats.start_reading()
        elif overdue > 0 and now > self.reading_since + SILENCE_SECONDS:
            since = self.since
            if self.heartbeats.num_readings > 1 and self.is_any_rank_busy():
                self.since = now
                self.stop_reading()
            elif since == self.since:
                self.end_hung_run(now - since)

    def stop_reading(self) -> None:
        if self.heartbeats.is_reading:
            self.heartbeats.stop_reading()
        self.reading_since = float("-inf")

    def make_state(self) -> RankState:
        """Return the state of this rank that its heartbeat publishes."""
        now = time.monotonic()
        age = now - self.since
        has_place = self.is_due and age > PLACE_SECONDS
        return {
            "host": socket.gethostname(),
            "doing": self.doing,
            "is_due": self.is_due,
            "age": age,
            "reads": now < self.last_disk_wait + DISK_SECONDS,
            "place": format_place(self.watched) if has_place else "",
            "waits": is_waiting_for_ranks(self.watched) if has_place else False,
        }

    def is_any_rank_busy(self) -> bool:
        """Return True if a live rank runs an operation without a limit, waits for a disk, or has finished a step recently."""
        states = [self.heartbeats.latest[rank] for rank in self.heartbeats.live_ranks]
        return any(
            state["doing"] != "ended" and (not state["is_due"] or state["reads"] or state["age"] < self.limit_seconds / 2)
            for state in states
        )

    def end_hung_run(self, seconds: float) -> None:
        """Report which ranks hang, and end this process."""
        latest, live_ranks = self.heartbeats.latest, self.heartbeats.live_ranks
        is_store_there = self.heartbeats.num_readings > 1
        message = format_hang(latest, live_ranks, seconds) if is_store_there else self.format_missing_store(seconds)
        report = os.environ.get(ERROR_VARIABLE)
        if self.rank in live_ranks and not latest[self.rank]["waits"]:
            print("".join(traceback.format_list(read_stack(self.watched))), file=sys.stderr, flush=True)
        host = socket.gethostname()
        if report is not None:
            write_report(Path(report), message, is_consequence=False)
        elif self.rank == min((rank for rank in live_ranks if latest[rank]["host"] == host), default=self.rank):
            print_error(message)
        time.sleep(EXIT_DELAY_SECONDS)
        os._exit(1)

    def format_missing_store(self, seconds: float) -> str:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        return (
            f"rank 0, or the host {place} where the ranks meet, hangs: it does not answer rank {self.rank} on "
            f"{socket.gethostname()}, so it is stopped, down or cut off. No training step has ended for {seconds:.0f} s. {REMEDY}"
        )


def start_sentinel(rank: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-I", "-S", sentinel.__file__, f"rank {rank}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)  # writing to a stopped sentinel must not block
    return process


REMEDY = "Rerun the same command, which resumes from the last checkpoint in save; if it hangs there again, that place is the cause."


def format_hang(latest: Sequence[RankState], live_ranks: set[int], seconds: float) -> str:
    """Return which ranks hang and where, from the last state of each rank and the set of ranks that still publish theirs.

    >>> state = {"host": "a", "doing": "a step", "place": "x.py:1 (f): time.sleep(60)", "waits": False}
    >>> print(format_hang([state, {**state, "host": "b", "waits": True}], {0, 1}, 18))
    rank 0 on a hangs at x.py:1 (f): time.sleep(60). No training step has ended for 18 s. Rerun the same command, \
which resumes from the last checkpoint in save; if it hangs there again, that place is the cause.
    """
    running = [rank for rank, state in enumerate(latest) if state["doing"] != "ended"]
    reasons = [
        f"rank {rank} on {latest[rank]['host']} hangs at {latest[rank]['place']}"
        if rank in live_ranks
        else f"rank {rank} on {latest[rank]['host']} hangs: {SILENCE}"
        for rank in running
        if rank not in live_ranks or not latest[rank]["waits"]
    ]
    if not reasons:
        waiting = [f"rank {rank} on {latest[rank]['host']} at {latest[rank]['place']}" for rank in running]
        reasons = [f"the ranks wait for each other, or for a GPU that does not end its work: {'; '.join(waiting[:MOST_NAMED])}"]
    more = f" and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
    return f"{'; '.join(reasons[:MOST_NAMED])}{more}. No training step has ended for {seconds:.0f} s. {REMEDY}"


SILENCE = "it is stopped or killed, in a call that blocks all its threads, or its host is down or cut off"
