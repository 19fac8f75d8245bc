"""Processes of this machine as Linux's /proc shows them: state, environment, start time; ending those that carry a mark.

    state_of(4711)                                # "R", "S", "T" ... as ps shows it; None for a process that has ended
    end_marked("NEOX_CODE_ERROR_FILE=/tmp/a")     # kill all processes whose environment holds this variable

Source: proc(5).
"""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from neox_code.errors import LaunchError

KILL_SECONDS = 10.0
"""How long `end_marked` waits for killed processes to be gone."""


def value_of(name: bytes, environment: Sequence[bytes]) -> list[str]:
    return [entry.partition(b"=")[2].decode() for entry in environment if entry.startswith(name + b"=")]


def state_of(process: int) -> str | None:
    """The letter that ps shows; None for a process that has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def environment_of(process: int) -> list[bytes]:
    """A process's variables; none for one that has ended or is another user's."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def start_time(process: int) -> str | None:
    """When a process started, in clock ticks since boot, which tells it from a later one of the same number; None if it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    return None if state in "ZX" else numbers[18]


def end_marked(mark: str) -> None:
    """Kills every process whose environment holds `NAME=VALUE`, and waits until none is left."""
    give_up = time.monotonic() + KILL_SECONDS
    while marked := [process for process in processes() if mark.encode() in environment_of(process)]:
        if time.monotonic() > give_up:
            raise LaunchError(f"process {marked[0]} cannot be killed: it waits for a device or a disk. Look at it with ps.")
        for process in marked:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
