"""Log lines and progress bars on standard error, from rank zero.

Standard output is for a command's result (generated text, tables); progress and events are logged here.

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
    """Return the rank of this process from the launcher's environment; 0 if it is not set."""
    return int(os.environ.get("RANK", "0"))


def is_rank_zero() -> bool:
    return rank() == 0


def format_plural(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> format_plural(1, "empty file"), format_plural(1024, "repository")
    ('1 empty file', '1,024 repositories')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


class StandardError(logging.StreamHandler):
    """A handler that always writes to the current sys.stderr, because a progress bar replaces sys.stderr while it is shown."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None: ...


class LogFile(logging.FileHandler):
    """A log file. After its first failure (a full disk, a lost file system) it is closed and one warning is logged."""

    def handleError(self, record: logging.LogRecord) -> None:
        log = get_logger("neox_code")
        log.removeHandler(self)
        log.warning(
            "log_dir: %s cannot be written (%s): log lines go to standard error alone", self.baseFilename, sys.exc_info()[1]
        )


def log_to_folder(folder: str | os.PathLike[str]) -> None:
    """Also append the log lines of this process to FOLDER/HOST_rankN.log; log a warning if that fails."""
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
    """Return the package's logger. It writes plain lines to standard error; ranks other than zero write warnings and errors only.

    The environment variable LOGLEVEL sets the level; INFO is the default.
    """
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
    """A column of a progress bar: the rate in units per second, with SI prefixes."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{format_si(speed)}{self.unit}/s", style="progress.data.speed")


class CountColumn(ProgressColumn):
    """A column of a progress bar: the completed and the total amount."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else format_si(task.total)
        return Text(f"{format_si(task.completed)}/{total}{self.unit}", style="progress.download")


def format_si(number: float) -> str:
    """Format a number with three digits, a space and an SI prefix; the unit is appended by the caller.

    >>> format_si(950), format_si(41_200), format_si(2_500_000)
    ('950 ', '41.2 k', '2.5 M')
    """
    for prefix in ("", "k", "M", "G", "T"):
        if abs(number) < 1000 or prefix == "T":
            return f"{number:.4g} {prefix}" if abs(number) >= 100 or number == int(number) else f"{number:.3g} {prefix}"
        number /= 1000
    raise AssertionError("unreachable")


@contextmanager
def progress(title: str, total: float | None, unit: str = "", every_seconds: float = 10.0, done: float = 0.0) -> Iterator[Advance]:
    """Show a bar with count, rate and remaining time; yield `advance(amount=1, total=None)`.

    `done` is the amount that an earlier run has completed. The count includes `done`; the rate does not.
    On a terminal the bar moves in place. Elsewhere (a log file, CI) a line is logged every `every_seconds` and at the end.
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
        yield from log_progress(title, total, unit_text, every_seconds, done)


def log_progress(title: str, total: float | None, unit: str, every_seconds: float, done: float) -> Iterator[Advance]:
    """Log a line every `every_seconds` instead of a bar, for output that is not a terminal."""
    log = get_logger("progress")
    begin = last = time.monotonic()
    done_before = done

    def line() -> str:
        seconds = max(time.monotonic() - begin, 1e-9)
        rate = (done - done_before) / seconds
        share = f"/{format_si(total)}" if total else ""
        left = f" | {max(total - done, 0) / rate:.0f} s left" if total and rate else ""
        return f"{title}: {format_si(done)}{share}{unit} | {format_si(rate)}{unit}/s | {seconds:.0f} s{left}"

    def advance(amount: float = 1, total_now: float | None = None, **keywords: float | None) -> None:
        nonlocal done, last, total
        total = keywords.get("total", total_now) or total
        done += amount
        if time.monotonic() - last >= every_seconds:
            last = time.monotonic()
            log.info("%s", line())

    yield advance
    log.info("%s", line())
