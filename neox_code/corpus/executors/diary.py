"""What the jobs of a cluster tell of their work while they do it: lines in files of a folder that the driver reads.

with Diary(folder, rank=3) as diary:                   # in a job: one file per process, so nobody writes into another's
    diary.write(task=7, done=2_097_152)                # of the task's work, so far
    diary.write(task=7, error="ValueError: ...")
diaries = Diaries(folder)                              # in the driver
diaries.read()                                         # the lines that are new
diaries.num_open                                       # processes that have begun and not ended
"""

import json
import os
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4


class Diary:
    """A context manager; its first line tells of the process, the last that it has ended."""

    def __init__(self, folder: Path, rank: int):
        folder.mkdir(parents=True, exist_ok=True)
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
        return len(self._read) - len(self._ended)

    def read(self) -> list[dict[str, Any]]:
        """The whole lines that have come since the last call."""
        lines: list[dict[str, Any]] = []
        if not self.folder.is_dir():
            return lines
        for name in sorted(path.name for path in self.folder.iterdir()):
            if name in self._ended:
                continue
            with (self.folder / name).open("rb") as file:
                file.seek(self._read.setdefault(name, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[name] += len(whole)
            found = [json.loads(line) for line in whole.splitlines()]
            if any("ended" in line for line in found):
                self._ended.add(name)
            lines += found
        return lines
