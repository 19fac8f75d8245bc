"""A child process that never outlives its parent, however the parent ends (`kill -9` included).

    parent = os.getpid()                          # in the parent; pass it to the child
    die_with_parent(signal.SIGKILL, parent)       # first thing in the child

Linux only, by prctl(2); on other systems the function returns False and does nothing.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(death_signal: int = signal.SIGKILL, parent: int | None = None) -> bool:
    """Let the kernel send `death_signal` to this process when the thread that started it ends; return True if supported.

    `parent` is the expected parent's process id: the signal is sent at once if that process has ended already.
    """
    if not sys.platform.startswith("linux"):
        return False
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), death_signal)
    return True
