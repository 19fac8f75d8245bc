"""Run an engine in a thread of its own, and pass what it generates to the event loop of the server.

thread = EngineThread(generator.engine)
thread.start()
job = thread.submit([request], is_streamed=True)      # on the event loop; QueueFullError if too many rows wait
async for delta in job.read():
    print(delta.text)
"""

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from neox_code.generation.engine import Engine, Row
from neox_code.generation.request import Request
from neox_code.logs import format_plural, get_logger

log = get_logger(__name__)

MAXIMUM_OPEN_ROWS = 512


class QueueFullError(Exception):
    """Too many rows wait; the client may try again later."""


class DrainingError(Exception):
    """The server is stopping."""


class EngineError(Exception):
    """The engine failed; the message has the reason."""


@dataclass(frozen=True)
class Delta:
    """The part of a row that one step has added."""

    number: int
    """Index of the row in `job.rows`."""
    text: str
    """New text that no stop rule can cut any more."""
    is_last: bool
    num_tokens: int
    num_logprobs: int
    """Lengths of `row.tokens` and `row.logprobs` after the step."""


@dataclass(eq=False)
class Job:
    """The rows of one HTTP request."""

    requests: Sequence[Request]
    is_streamed: bool
    loop: asyncio.AbstractEventLoop
    num_open_rows: int
    """Number of rows whose end has not reached the event loop."""
    rows: list[Row] = field(default_factory=list)
    """Set by the engine's thread. The event loop reads only values that no longer change, such as those of an ended row."""
    deltas: asyncio.Queue[Delta | EngineError] = field(default_factory=asyncio.Queue)
    """Deltas to deliver; without `is_streamed`, only the last delta of each row. Their maximum size is the completions' text."""
    is_cancelled: bool = False

    async def read(self) -> AsyncIterator[Delta]:
        """Yield the deltas until all rows have ended; cancel the rows if the caller stops earlier. Raise EngineError."""
        remaining = sum(request.num_samples for request in self.requests)
        try:
            while remaining:
                delta = await self.deltas.get()
                if isinstance(delta, EngineError):
                    raise delta
                remaining -= delta.is_last
                yield delta
        finally:
            self.cancel()

    async def wait(self) -> list[Row]:
        """Return the rows when all have ended; cancel them if the caller is cancelled. Raise EngineError."""
        async for _ in self.read():
            pass
        return self.rows

    def cancel(self) -> None:
        """End the rows at the engine's next step."""
        self.is_cancelled = True
        for row in self.rows:
            row.cancel()


class EngineThread(threading.Thread):
    """The thread that calls the engine. Use `submit`, `drain`, `deliver` and `num_open_rows` on the event loop only."""

    def __init__(self, engine: Engine, maximum_open_rows: int = MAXIMUM_OPEN_ROWS):
        super().__init__(name="engine", daemon=True)
        self.engine, self.maximum_open_rows = engine, maximum_open_rows
        self.num_open_rows = 0
        self.on_end: Callable[[Row], None] = lambda row: None
        """Called on the event loop with each row that has ended."""
        self.is_draining = self.is_stopped = False
        self.changed = threading.Condition()
        self.new_jobs: list[Job] = []
        self.places: dict[Row, tuple[Job, int]] = {}
        """Row in the engine -> (its job, index of the row in `job.rows`)."""

    def submit(self, requests: Sequence[Request], is_streamed: bool = False) -> Job:
        """Queue requests. Raise QueueFullError if more than `maximum_open_rows` would be open, DrainingError after `drain`."""
        if self.is_draining:
            raise DrainingError
        job = Job(requests, is_streamed, asyncio.get_running_loop(), sum(request.num_samples for request in requests))
        if self.num_open_rows + job.num_open_rows > self.maximum_open_rows:
            raise QueueFullError
        self.num_open_rows += job.num_open_rows
        with self.changed:
            self.new_jobs.append(job)
            self.changed.notify()
        return job

    async def drain(self, seconds: float) -> None:
        """Refuse new jobs, and return when the open jobs have ended, or after `seconds`."""
        self.is_draining = True
        try:
            async with asyncio.timeout(seconds):
                while self.num_open_rows:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            log.warning("%s had not ended after %g s", format_plural(self.num_open_rows, "completion"), seconds)

    def stop(self) -> None:
        """End the thread after its current step."""
        with self.changed:
            self.is_stopped = True
            self.changed.notify()

    def run(self) -> None:
        """Step the engine while it has rows, and otherwise wait for a job, until `stop`."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.new_jobs or self.is_stopped or not self.engine.is_idle)
                jobs, self.new_jobs = self.new_jobs, []
            if self.is_stopped:
                return
            try:
                for job in jobs:
                    self.add(job)
                self.publish(self.engine.step())
            except Exception as error:
                traceback.print_exc()
                self.fail(jobs, error)

    def add(self, job: Job) -> None:
        """Give the requests of a job to the engine."""
        job.rows = [row for request in job.requests for row in self.engine.add(request)]
        self.places |= {row: (job, number) for number, row in enumerate(job.rows)}
        if job.is_cancelled:
            job.cancel()

    def publish(self, changed: Sequence[Row]) -> None:
        """Pass the new texts and the ends of rows to the event loop."""
        for row in changed:
            job, number = self.places[row]
            is_last = row.stop_reason is not None
            text = row.take_text() if job.is_streamed else ""
            if is_last:
                del self.places[row]
            if text or is_last:
                self.send(job, Delta(number, text, is_last, len(row.tokens), len(row.logprobs)))

    def fail(self, new_jobs: Sequence[Job], error: Exception) -> None:
        """End all jobs with an error, and continue with an empty engine."""
        for job in {*new_jobs, *(job for job, _ in self.places.values())}:
            self.send(job, EngineError(f"{type(error).__name__}: {error}"))
        self.places.clear()
        for entries in (self.engine.waiting, self.engine.running, self.engine.prefixes.entries):
            entries.clear()

    def send(self, job: Job, delta: Delta | EngineError) -> None:
        if not job.loop.is_closed():
            job.loop.call_soon_threadsafe(self.deliver, job, delta)

    def deliver(self, job: Job, delta: Delta | EngineError) -> None:
        num_ended = job.num_open_rows if isinstance(delta, EngineError) else delta.is_last
        job.num_open_rows -= num_ended
        self.num_open_rows -= num_ended
        job.deltas.put_nowait(delta)
        if isinstance(delta, Delta) and delta.is_last:
            self.on_end(job.rows[delta.number])
