"""A small process beside a rank that kills it when nothing of it runs any more: stopped, or in a call that lets no thread run.

    python -I -S sentinel.py NAME          # standard input: a line a second, the seconds until the next must come (0: any time)

The rank's own threads see to everything else (`watchdog`); here are no imports but small ones of the standard library. It ends when
its standard input or the rank ends. A pause of both is no silence, nor is a wait for a disk.
"""

import os
import select
import signal
import socket
import sys
import time

LOOK_SECONDS = 1.0
LATE_SECONDS = 4.0
"""A look that comes so much later than it should: this process was paused as well."""


def watch(name: str, rank: int) -> None:
    """Until standard input ends, or the process `rank` is no longer the parent, or is killed."""
    patience, heard = 0.0, time.monotonic()
    while os.getppid() == rank:
        asked = time.monotonic()
        is_there = select.select([0], [], [], LOOK_SECONDS)[0]
        now = time.monotonic()
        if is_there:
            lines = os.read(0, 1 << 16).split()
            if not lines:
                return
            patience, heard = float(lines[-1]), now
        elif now > asked + LOOK_SECONDS + LATE_SECONDS or "D" in states(rank):
            heard = now
        elif patience and now > heard + patience and os.getppid() == rank:
            print(
                f"error: {name} hangs: nothing of its process {rank} on {socket.gethostname()} has run for {now - heard:.0f} s"
                f"{' (it is stopped: SIGSTOP)' if 'T' in states(rank) else ''}; it is killed. Rerun the same command.",
                file=sys.stderr,
                flush=True,
            )
            os.kill(rank, signal.SIGKILL)
            return


def states(process: int) -> set[str]:
    """The letters that ps shows for a process's threads."""
    found = set()
    try:
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - pathlib would be the largest import
            with open(f"/proc/{process}/task/{thread}/stat") as file:  # noqa: PTH123
                found.add(file.read().rpartition(")")[2].split()[0])
    except OSError:
        return found  # the process, or a thread, has ended meanwhile
    return found


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.argv[1], os.getppid())
