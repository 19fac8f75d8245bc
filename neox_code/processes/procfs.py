"""Read the state, environment and start time of processes from Linux's /proc, and kill processes with a given variable.

    find_state(4711)                                # "R", "S", "T" ... as ps shows it; None for a process that has ended
    kill_marked_processes("NEOX_CODE_ERROR_FILE=/tmp/a")    # kill all processes whose environment holds this variable

Source: proc(5).
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from neox_code.errors import LaunchError

KILL_SECONDS = 10.0
"""Time that `kill_marked_processes` waits for killed processes to end."""


def read_stat(folder: Path) -> list[str]:
    """Return the fields of FOLDER/stat from the state letter on. FOLDER is that of a process or thread; empty if it has ended."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()  # the name before it may have spaces and parentheses
    except OSError:
        return []


def read_state(folder: Path) -> str | None:
    """Return the state letter (as in ps) of a process or thread, given its folder below /proc; None if it has ended."""
    return next(iter(read_stat(folder)), None)


def find_state(process: int) -> str | None:
    """Return the state letter of a process; None if it has ended."""
    return read_state(Path("/proc", str(process)))


def list_processes() -> list[int]:
    """Return the ids of all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def read_environment(process: int) -> list[bytes]:
    """Return a process's variables as `NAME=VALUE`; empty if it has ended or belongs to another user."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def find_values(name: bytes, environment: Sequence[bytes]) -> list[str]:
    """Return the values (one or none) of a variable in the result of `read_environment`."""
    return [entry.partition(b"=")[2].decode() for entry in environment if entry.startswith(name + b"=")]


def read_waited_seconds(process: int) -> float:
    """Return the longest time that a thread of a process has been ready to run and waited for a core; 0 if it has ended."""
    waited = [0]
    for thread in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with suppress(OSError):  # without CONFIG_SCHED_INFO there is no such file
            waited.append(int(thread.read_text().split()[1]))
    return max(waited) / 1e9


def read_process_cpu_seconds(process: int) -> float:
    """Return the CPU time of a process and of its children that have ended; 0 if it has ended itself."""
    fields = read_stat(Path("/proc", str(process)))
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def read_start_time(process: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if it has ended.

    A process id and a start time together identify a process, because the kernel reuses ids.
    """
    fields = read_stat(Path("/proc", str(process)))
    return fields[19] if fields and fields[0] not in "ZX" else None


def read_command(process: int) -> tuple[str, int] | None:
    """Return (command line, parent's id) of a process, the arguments joined by spaces; None if it has ended."""
    folder = Path("/proc", str(process))
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return None
    fields = read_stat(folder)
    return (command, int(fields[1])) if fields else None


def kill_marked_processes(mark: str) -> None:
    """Kill every process whose environment holds `mark` (NAME=VALUE), and return when none is left.

    Raise LaunchError after KILL_SECONDS.
    """
    give_up = time.monotonic() + KILL_SECONDS
    while marked := [process for process in list_processes() if mark.encode() in read_environment(process)]:
        if time.monotonic() > give_up:
            raise LaunchError(f"process {marked[0]} cannot be killed: it waits for a device or a disk. Inspect it with ps.")
        for process in marked:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
