"""The first and last call of a process that a launcher starts: it ends with its launcher, and its error is reported.

sys.exit(run_rank(main, sys.argv[1:]))   # follow_launcher(), main, report_error()
exit_rank(main, sys.argv[1:])            # the same, and the process ends at once
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from neox_code.errors import EXIT_RESUME, EXIT_USER_ERROR, remedy_sentence, run_command
from neox_code.processes.error_report import is_lost_peer, report_error
from neox_code.processes.parent import die_with_parent
from neox_code.processes.procfs import read_start_time

LAUNCHER_VARIABLE = "NEOX_CODE_LAUNCHER"
"""The supervisor's process number and start time, `PID:TICKS`."""


LAUNCHED_BY = (LAUNCHER_VARIABLE, "CROSS_RANK", "TORCHELASTIC_RUN_ID")
"""Variables that only a launcher sets (this one, DeepSpeed's, torchrun): its ranks are to end with their parent."""


CONSEQUENCE_SECONDS = 3.0
"""A rank that has lost another one says so this much later: by then the launcher has heard of the cause and ended it."""


WATCH_SECONDS = 0.5


def run_rank(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """`main` in a process that ends with its launcher, and whose error the supervisor prints last; returns the exit status."""
    follow_launcher()

    def reporting(words: Sequence[str]) -> int:
        try:
            return main(words)
        except Exception as error:
            if remedy_sentence(error) is None and is_lost_peer(str(error)):
                time.sleep(CONSEQUENCE_SECONDS)
            if report_error(error) and remedy_sentence(error) is not None:
                return EXIT_USER_ERROR
            raise

    return run_command(reporting, argv)


def exit_rank(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> NoReturn:
    """`run_rank` as a process's last call, which the interpreter's own end, seconds with torch, does not follow.

    Exit functions are called where the rank has ended well; after an error they might wait for other ranks.
    """
    try:
        status = run_rank(main, argv)
    except Exception:
        sys.excepthook(*sys.exc_info())
        status = 1
    if status in (0, EXIT_RESUME):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def follow_launcher() -> None:
    """Ends this process when the process that launched it, or the run's supervisor, is gone.

    Does nothing in a process that no launcher started.
    """
    if not any(name in os.environ for name in LAUNCHED_BY):
        return
    parent = os.getppid()
    die_with_parent(signal.SIGKILL)
    supervisor, _, started = os.environ.get(LAUNCHER_VARIABLE, "").partition(":")

    def is_alone() -> bool:
        return os.getppid() != parent or (bool(supervisor) and read_start_time(int(supervisor)) != started)

    def watch() -> None:
        while not is_alone():
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="follow-launcher", daemon=True).start()
