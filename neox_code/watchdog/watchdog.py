"""Ends a run in which a rank hangs: a thread in every rank that sees when no step has ended for too long.

    with Watchdog(config.parallelism.hang_timeout_seconds, grid) as watchdog:
        watchdog.rest("compiling")       # what comes now may take its time
        ...
        watchdog.beat()                  # a step or batch has ended; the next is due

When one is overdue, every rank knows within seconds which ranks say nothing any more, which wait for others, and which stand
somewhere else; each says so and ends, whatever its training thread is caught in. Then the launcher, ours or another, ends the rest.
A run is not ended while a rank saves, waits for a disk, or has just gone on; nor for having been paused itself (SIGSTOP, a laptop
that slept). A stopped process cannot end itself: `sentinel` does it.
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
from neox_code.processes.error_report import ERROR_VARIABLE, leave_report
from neox_code.watchdog import sentinel
from neox_code.watchdog.heartbeats import Word, Words
from neox_code.watchdog.thread_state import place, stack_of, waits_for_disk, waits_for_ranks

LEAST_SECONDS = 15.0
"""A step is never overdue before."""

TIMES_THE_LONGEST = 3.0
SPARE_SECONDS = 5.0
RECENT_STEPS = 100
WARM_UP_STEPS = 2
"""Steps at the beginning in which kernels are built and buffers made; they are never overdue."""

LOOK_SECONDS = 0.5
LATE_SECONDS = 5.0
"""A look that comes so late: this process was paused."""

HEARING_SECONDS = 3.0
"""Before a step is overdue, its rank begins to listen to the others: one that says nothing for so long is silent."""

TELLING_SECONDS = 2.0
"""An age from which a word names a place: reading it costs a little."""

DISK_SECONDS = 5.0
"""A thread that waited for a disk so recently is reading or writing."""

LEAVING_SECONDS = 1.0
"""From the verdict to the end of the process: the other ranks come to theirs, and the store is there for it."""

SENTINEL_SECONDS = 4.0
"""What the sentinel waits beyond the limit: the ranks' own word comes first."""

NAMED = 4
"""A sentence names no more ranks than this."""


class Watchdog:
    """Watches the thread that enters it."""

    def __init__(self, timeout_seconds: float | None, grid: ParallelGrid) -> None:
        self.timeout, self.rank = timeout_seconds, grid.rank
        self.is_on = grid.world_size > 1 if timeout_seconds is None else timeout_seconds > 0
        self.recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self.beats = 0
        self.sentinel: subprocess.Popen[bytes] | None = None
        self.rest("starting")

    # ---- the watched thread

    def beat(self) -> None:
        """A step or batch has ended, and the next is due within the limit."""
        now = time.monotonic()
        was_due = self.is_due
        if was_due:
            self.recent.append(now - self.since)
        self.beats += 1
        self.since, self.is_due, self.doing = now, self.beats >= WARM_UP_STEPS, "a step"
        if self.is_due and not was_due:
            self.feed_sentinel()

    def rest(self, doing: str) -> None:
        """What comes now may take its time."""
        self.since, self.is_due, self.doing = time.monotonic(), False, doing
        self.feed_sentinel()

    def __enter__(self) -> "Watchdog":
        if self.is_on:
            self.watched, self.native_id = threading.get_ident(), threading.get_native_id()
            self.disk = self.alarm = float("-inf")
            self.looked = time.monotonic()
            self.words = Words(self.word)
            self.sentinel = start_sentinel(self.rank)
            self.leaving = threading.Event()
            self.thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)
            self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.is_on:
            self.rest("ended")
            self.leaving.set()
            self.thread.join()
            self.words.close(self.word())

    # ---- the watching thread

    @property
    def limit(self) -> float:
        """Seconds that a step may take."""
        longest = max(list(self.recent), default=0.0)
        return self.timeout or max(LEAST_SECONDS, TIMES_THE_LONGEST * longest + SPARE_SECONDS)

    def watch(self) -> None:
        assert self.sentinel is not None
        with self.sentinel:
            try:
                while not self.leaving.wait(LOOK_SECONDS):
                    self.feed_sentinel()
                    self.look(time.monotonic())
            finally:
                self.sentinel.kill()

    def feed_sentinel(self) -> None:
        """Twice a second, and at once where patience begins or ends: what comes may let no other thread run."""
        if self.sentinel is None or self.sentinel.stdin is None or self.sentinel.stdin.closed:
            return
        patience = self.limit + SENTINEL_SECONDS if self.is_due else 0.0
        try:
            self.sentinel.stdin.write(f"{patience:.1f}\n".encode())
        except OSError:
            return  # somebody killed it; the rank does without

    def look(self, now: float) -> None:
        """One look at the watched thread."""
        is_late, self.looked = now > self.looked + LATE_SECONDS, now
        if waits_for_disk(self.native_id):
            self.disk = now
        if is_late:
            self.since = now
        overdue = now - self.since - self.limit
        if is_late or not self.is_due or overdue < -HEARING_SECONDS:
            self.forget_alarm()
        elif self.alarm < self.since:
            self.alarm = now
            self.words.listen()
        elif overdue > 0 and now > self.alarm + HEARING_SECONDS:
            since = self.since
            if self.words.readings > 1 and self.is_excused():
                self.since = now
                self.forget_alarm()
            elif since == self.since:
                self.end(now - since)

    def forget_alarm(self) -> None:
        if self.words.is_listening:
            self.words.listen(False)
        self.alarm = float("-inf")

    def word(self) -> Word:
        """What this rank tells the others of itself."""
        now = time.monotonic()
        age = now - self.since
        is_telling = self.is_due and age > TELLING_SECONDS
        return {
            "host": socket.gethostname(),
            "doing": self.doing,
            "is_due": self.is_due,
            "age": age,
            "reads": now < self.disk + DISK_SECONDS,
            "place": place(self.watched) if is_telling else "",
            "waits": waits_for_ranks(self.watched) if is_telling else False,
        }

    def is_excused(self) -> bool:
        """Whether a rank does something that takes its time, or has gone on since."""
        words = [self.words.latest[rank] for rank in self.words.fresh]
        return any(
            word["doing"] != "ended" and (not word["is_due"] or word["reads"] or word["age"] < self.limit / 2) for word in words
        )

    def end(self, seconds: float) -> None:
        """Says who hangs and ends this process."""
        latest, fresh = self.words.latest, self.words.fresh
        message = verdict(latest, fresh, seconds) if self.words.readings > 1 else self.no_store(seconds)
        report = os.environ.get(ERROR_VARIABLE)
        if self.rank in fresh and not latest[self.rank]["waits"]:
            print("".join(traceback.format_list(stack_of(self.watched))), file=sys.stderr, flush=True)
        host = socket.gethostname()
        if report is not None:
            leave_report(Path(report), message, is_consequence=False)
        elif self.rank == min((rank for rank in fresh if latest[rank]["host"] == host), default=self.rank):
            print_error(message)
        time.sleep(LEAVING_SECONDS)
        os._exit(1)

    def no_store(self, seconds: float) -> str:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        return (
            f"rank 0, or the host {place} where the ranks meet, hangs: it does not answer rank {self.rank} on "
            f"{socket.gethostname()}, so it is stopped, down or cut off. No training step has ended for {seconds:.0f} s. {REMEDY}"
        )


def start_sentinel(rank: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-I", "-S", sentinel.__file__, f"rank {rank}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)  # where it is stopped, nothing waits for it
    return process


REMEDY = "Rerun the same command, which resumes from the last checkpoint in save; if it hangs there again, that place is the cause."


def verdict(latest: Sequence[Word], fresh: set[int], seconds: float) -> str:
    """Who keeps the others waiting, by the last word of each rank and by who still says something.

    >>> word = {"host": "a", "doing": "a step", "place": "x.py:1 (f): time.sleep(60)", "waits": False}
    >>> print(verdict([word, {**word, "host": "b", "waits": True}], {0, 1}, 18))
    rank 0 on a hangs at x.py:1 (f): time.sleep(60). No training step has ended for 18 s. Rerun the same command, \
which resumes from the last checkpoint in save; if it hangs there again, that place is the cause.
    """
    there = [rank for rank, word in enumerate(latest) if word["doing"] != "ended"]
    reasons = [
        f"rank {rank} on {latest[rank]['host']} hangs at {latest[rank]['place']}"
        if rank in fresh
        else f"rank {rank} on {latest[rank]['host']} hangs: {SILENCE}"
        for rank in there
        if rank not in fresh or not latest[rank]["waits"]
    ]
    if not reasons:
        waiting = [f"rank {rank} on {latest[rank]['host']} at {latest[rank]['place']}" for rank in there]
        reasons = [f"the ranks wait for each other, or for a GPU that does not end its work: {'; '.join(waiting[:NAMED])}"]
    more = f" and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return f"{'; '.join(reasons[:NAMED])}{more}. No training step has ended for {seconds:.0f} s. {REMEDY}"


SILENCE = "it is stopped or killed, in a call that lets nothing else of it run, or its host is down or cut off"
