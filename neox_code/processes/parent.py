"""A child process that never outlives its parent, however the parent ends (`kill -9` included).

    parent = os.getpid()                          # in the parent, handed to the child
    die_with_parent(signal.SIGKILL, parent)       # first thing in the child

Linux only (prctl); elsewhere nothing happens and False is returned.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(death_signal: int = signal.SIGKILL, parent: int | None = None) -> bool:
    """Has the kernel send `death_signal` to this process when the thread that started it ends; returns whether that is in force.

    With `parent`, the expected parent's process id, the signal is sent at once where that process is gone already.
    """
    if not sys.platform.startswith("linux"):
        return False
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), death_signal)
    return True
