"""The main function of a rank: the process ends when its launcher ends, and an error is reported to the supervisor.

sys.exit(run_rank(main, sys.argv[1:]))   # exit_with_launcher(), main, report_error()
run_and_exit(main, sys.argv[1:])            # the same, and the process ends at once
"""

import atexit
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from neox_code.errors import EXIT_RESUME, EXIT_USER_ERROR, format_remedy, run_command
from neox_code.launch.hosts import find_visible_gpus
from neox_code.processes.error_report import report_error, reports_lost_peer
from neox_code.processes.parent import die_with_parent
from neox_code.processes.procfs import read_start_time

LAUNCHER_VARIABLE = "NEOX_CODE_LAUNCHER"
"""Variable with the supervisor's process id and start time, `PID:TICKS`."""

LAUNCHED_BY = (LAUNCHER_VARIABLE, "CROSS_RANK", "TORCHELASTIC_RUN_ID")
"""Variables that only a launcher sets (ours, DeepSpeed's, torchrun). A rank with one of them ends when its parent ends."""

CONSEQUENCE_SECONDS = 3.0
"""Seconds that a rank waits with its report after it lost the connection to another rank. Meanwhile the launcher reads the report
of the rank that failed first, and ends this rank."""

POLL_SECONDS = 0.5


def prepare_imports() -> None:
    """Set what DeepSpeed and megatron-core read when they are imported; otherwise they print warnings about a missing GPU.

    Our launcher sets DS_ACCELERATOR in the ranks' environment; other launchers do not.
    """
    if not find_visible_gpus():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", "Transformer", UserWarning)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns about a missing CUDA toolkit


def run_rank(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Call `main` in a process that ends with its launcher, and report its error to the supervisor; return the exit status."""
    exit_with_launcher()

    def call_main(arguments: Sequence[str]) -> int:
        try:
            return main(arguments)
        except Exception as error:
            if format_remedy(error) is None and reports_lost_peer(str(error)):
                time.sleep(CONSEQUENCE_SECONDS)
            if report_error(error) and format_remedy(error) is not None:
                return EXIT_USER_ERROR
            raise

    return run_command(call_main, argv)


def run_and_exit(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> NoReturn:
    """Call `run_rank` and end the process without the interpreter's own exit, which takes seconds with torch.

    Functions registered with atexit are called if the rank succeeded; after an error they might wait for other ranks.
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


def exit_with_launcher() -> None:
    """End this process when its launcher or the run's supervisor ends. Do nothing if no launcher started this process."""
    if not any(name in os.environ for name in LAUNCHED_BY):
        return
    parent = os.getppid()
    die_with_parent(signal.SIGKILL)
    supervisor, _, started = os.environ.get(LAUNCHER_VARIABLE, "").partition(":")

    def is_launcher_gone() -> bool:
        return os.getppid() != parent or (bool(supervisor) and read_start_time(int(supervisor)) != started)

    def watch_launcher() -> None:
        while not is_launcher_gone():
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch_launcher, name="follow-launcher", daemon=True).start()
