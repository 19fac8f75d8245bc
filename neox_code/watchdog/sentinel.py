"""A small process for each rank. It kills the rank if none of the rank's threads can run: the rank is stopped (SIGSTOP), or one
call blocks all threads.

    python -I -S sentinel.py NAME          # each line of standard input: seconds until the next line is due (0: no limit)

The rank's own threads detect all other cases (`watchdog`). This module imports only small standard modules. The process ends when
its standard input or the rank ends. Time during which both processes were paused, or the rank waited for a disk, is not counted.
"""

import os
import select
import signal
import socket
import sys
import time

POLL_SECONDS = 1.0
PAUSE_SECONDS = 4.0
"""Seconds of delay of a poll from which this process itself was paused too."""


def watch(name: str, rank: int) -> None:
    """Kill process `rank` when it stays silent too long; return when standard input ends or when `rank` is no longer the parent."""
    timeout, last_line = 0.0, time.monotonic()
    while os.getppid() == rank:
        before = time.monotonic()
        has_input = select.select([0], [], [], POLL_SECONDS)[0]
        now = time.monotonic()
        if has_input:
            lines = os.read(0, 1 << 16).split()
            if not lines:
                return
            timeout, last_line = float(lines[-1]), now
        elif now > before + POLL_SECONDS + PAUSE_SECONDS or "D" in read_thread_states(rank):
            last_line = now
        elif timeout and now > last_line + timeout and os.getppid() == rank:
            print(
                f"error: {name} hangs: nothing of its process {rank} on {socket.gethostname()} has run for {now - last_line:.0f} s"
                f"{' (it is stopped: SIGSTOP)' if 'T' in read_thread_states(rank) else ''}; it is killed. "
                "Rerun the same command to resume.",
                file=sys.stderr,
                flush=True,
            )
            os.kill(rank, signal.SIGKILL)
            return


def read_thread_states(process: int) -> set[str]:
    """Return the state letters of a process's threads, as ps shows them. Source: proc(5)."""
    found = set()
    try:
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - pathlib would be the largest import
            with open(f"/proc/{process}/task/{thread}/stat") as file:  # noqa: PTH123
                found.add(file.read().rpartition(")")[2].split()[0])
    except OSError:
        return found  # the process or a thread has ended meanwhile
    return found


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.argv[1], os.getppid())
