"""What the jobs of a cluster tell of their work while they do it: lines in files of a folder that the driver makes and reads.

with Diary(folder, rank=3) as diary:                   # in a job: one file per process, so nobody writes into another's
    diary.write(task=7, done=2_097_152)                # of the task's work, so far
    diary.write(task=7, error="ValueError: ...")
diaries = Diaries(folder)                              # in the driver
diaries.read()                                         # the lines that are new
diaries.num_open                                       # jobs that have begun and not ended, in whatever process
"""

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4


class Diary:
    """A context manager; its first line tells of the process, the last that it has ended."""

    def __init__(self, folder: Path, rank: int):
        self.path = folder / f"{rank:05d}-{uuid4().hex[:8]}.jsonl"

    def __enter__(self) -> "Diary":
        self.write(host=socket.gethostname(), pid=os.getpid())
        return self

    def __exit__(self, *exception: object) -> None:
        self.write(ended=True)

    def write(self, **line: Any) -> None:
        """Adds a line; the file is closed each time, which is when a network file system shows it to others."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Diaries:
    """All diaries of a folder, read as they grow."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[str, int] = {}
        self._ended: set[str] = set()

    @property
    def num_open(self) -> int:
        return len(ranks(self._read) - ranks(self._ended))

    def read(self) -> list[dict[str, Any]]:
        """The whole lines that have come since the last call."""
        lines: list[dict[str, Any]] = []
        for name in sorted(path.name for path in self.folder.iterdir()):
            if name in self._ended:
                continue
            with (self.folder / name).open("rb") as file:
                file.seek(self._read.setdefault(name, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[name] += len(whole)
            found = [line for text in whole.splitlines() if (line := parsed(text)) is not None]
            if any("ended" in line for line in found):
                self._ended.add(name)
            lines += found
        return lines


def ranks(names: Iterable[str]) -> set[str]:
    return {name.partition("-")[0] for name in names}


def parsed(text: bytes) -> dict[str, Any] | None:
    """A line; None for what a full disk, or a network file system that shows a file before its content, has made of one."""
    try:
        return json.loads(text)
    except ValueError:
        return None
