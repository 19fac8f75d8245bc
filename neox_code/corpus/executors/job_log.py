"""Progress and errors of jobs. Jobs write them as JSON lines to files in a folder, and the driver reads the folder.

with JobLog(folder, job=3) as job_log:                 # in a job: every process writes a file of its own
    job_log.write(task=7, done=2_097_152)              # the amount of work that the task has done so far
    job_log.write(task=7, error="ValueError: ...")
logs = JobLogs(folder)                                 # in the driver
logs.read()                                            # the new lines
logs.num_open                                          # the number of jobs that have started and not ended
"""

import json
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


class JobLog:
    """The log of one process of a job; a context manager. The first line describes the process, the last line marks its end."""

    def __init__(self, folder: Path, job: int):
        self.path = folder / f"{job:05d}-{uuid4().hex[:8]}.jsonl"

    def __enter__(self) -> "JobLog":
        self.write(host=socket.gethostname(), pid=os.getpid())
        return self

    def __exit__(self, *exception: object) -> None:
        self.write(ended=True)

    def write(self, **line: Any) -> None:
        """Append a line and close the file. On a network file system, other machines see the line after the file is closed."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class JobLogs:
    """All job logs of a folder, read while they grow."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[str, int] = {}
        self._ended: set[str] = set()

    @property
    def num_open(self) -> int:
        """Number of running jobs. A job that was restarted has several logs; it has ended if one of its logs has an end."""
        return len(parse_job_numbers(self._read) - parse_job_numbers(self._ended))

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that were completed since the last call. A damaged line is skipped; a full disk can damage lines."""
        lines: list[dict[str, Any]] = []
        for name in sorted({path.name for path in self.folder.iterdir()} - self._ended):
            with (self.folder / name).open("rb") as file:
                file.seek(self._read.setdefault(name, 0))
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            self._read[name] += len(data)
            for text in data.splitlines():
                with suppress(ValueError):
                    lines.append(line := json.loads(text))
                    if "ended" in line:
                        self._ended.add(name)
        return lines


def parse_job_numbers(names: Iterable[str]) -> set[str]:
    return {name.partition("-")[0] for name in names}
