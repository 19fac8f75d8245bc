"""Log lines and progress bars: once per event, on rank zero, on standard error.

Standard output belongs to a command's result (generated text, tables); everything about the work goes through here.

    log = get_logger(__name__)
    log.info("iteration %d | loss %.3f", 10, 2.5)
    with progress("corpus", total=len(files), unit="files") as advance:
        for file in files:
            advance(1)
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[..., None]


def rank() -> int:
    """This process's rank, from the launcher's environment; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def is_rank_zero() -> bool:
    return rank() == 0


class StandardError(logging.StreamHandler):
    """Writes to whatever sys.stderr is at the moment: a progress bar stands in for it while it moves."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None: ...


class LogFile(logging.FileHandler):
    """A log file whose first failure (a full disk, a lost file system) is one warning, after which it is written no more."""

    def handleError(self, record: logging.LogRecord) -> None:
        log = get_logger("neox_code")
        log.removeHandler(self)
        log.warning(
            "log_dir: %s cannot be written (%s): log lines go to standard error alone", self.baseFilename, sys.exc_info()[1]
        )


def copy_log(folder: str | os.PathLike[str]) -> None:
    """Write this process's log lines to FOLDER/HOST_rankN.log as well, after those of earlier runs; warn where that fails."""
    path = Path(folder) / f"{socket.gethostname()}_rank{rank()}.log"
    log = get_logger("neox_code")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(path, encoding="utf-8")
    except OSError as error:
        log.warning("log_dir: %s cannot be written (%s): log lines go to standard error alone", path, error.strerror)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)


def get_logger(name: str) -> logging.Logger:
    """The package's logger: plain lines on standard error, level from LOGLEVEL (default INFO), rank zero only below WARNING."""
    root = logging.getLogger("neox_code")
    if not root.handlers:
        handler = StandardError()
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.addFilter(lambda record: record.levelno >= logging.WARNING or is_rank_zero())
        root.addHandler(handler)
        root.setLevel(os.environ.get("LOGLEVEL", "INFO").upper())
        root.propagate = False
    return logging.getLogger(name if name.startswith("neox_code") else f"neox_code.{name}")


class RateColumn(ProgressColumn):
    """Units a second, with SI prefixes."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{si(speed)}{self.unit}/s", style="progress.data.speed")


class CountColumn(ProgressColumn):
    """How much is done, of how much."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else si(task.total)
        return Text(f"{si(task.completed)}/{total}{self.unit}", style="progress.download")


def si(number: float) -> str:
    """A number in three digits and an SI prefix, with a space before the unit that follows.

    >>> si(950), si(41_200), si(2_500_000)
    ('950 ', '41.2 k', '2.5 M')
    """
    for prefix in ("", "k", "M", "G", "T"):
        if abs(number) < 1000 or prefix == "T":
            return f"{number:.4g} {prefix}" if abs(number) >= 100 or number == int(number) else f"{number:.3g} {prefix}"
        number /= 1000
    raise AssertionError("unreachable")


@contextmanager
def progress(title: str, total: float | None, unit: str = "", every_seconds: float = 10.0, done: float = 0.0) -> Iterator[Advance]:
    """A bar with count, rate and remaining time; yields `advance(amount=1, total=None)`.

    What was `done` before, by a run that this one goes on from, is part of the count and not of the rate.

    On a terminal the bar moves in place; elsewhere (a log file, CI) a line is printed every `every_seconds`, and one at the end.
    """
    unit_text = unit
    console = Console(stderr=True)
    if not is_rank_zero():
        yield lambda amount=1, total=None: None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            CountColumn(unit_text),
            RateColumn(unit_text),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=done)  # type: ignore[arg-type]
            yield lambda amount=1, total=None: bar.update(task, advance=amount, **({} if total is None else {"total": total}))
    else:
        yield from line_progress(title, total, unit_text, every_seconds, done)


def line_progress(title: str, total: float | None, unit: str, every_seconds: float, done: float) -> Iterator[Advance]:
    """The same for output that is not a terminal: now and then one line."""
    log = get_logger("progress")
    begin = last = time.monotonic()
    done_before = done

    def line() -> str:
        seconds = max(time.monotonic() - begin, 1e-9)
        rate = (done - done_before) / seconds
        share = f"/{si(total)}" if total else ""
        left = f" | {max(total - done, 0) / rate:.0f} s left" if total and rate else ""
        return f"{title}: {si(done)}{share}{unit} | {si(rate)}{unit}/s | {seconds:.0f} s{left}"

    def advance(amount: float = 1, total_now: float | None = None, **keywords: float | None) -> None:
        nonlocal done, last, total
        total = keywords.get("total", total_now) or total
        done += amount
        if time.monotonic() - last >= every_seconds:
            last = time.monotonic()
            log.info("%s", line())

    yield advance
    log.info("%s", line())
