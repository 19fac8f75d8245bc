"""Read the state of a thread: the line of Python that it runs, and True or False for waiting on other ranks or on a disk.

format_place(thread)            # "neox_code/data/sampler.py:30 (__iter__): time.sleep(60), called from ..."
is_waiting_for_ranks(thread)    # True inside a collective, or while waiting for the GPU's part of one
is_waiting_for_disk(native_id)  # True if the thread or a child process reads or writes; Linux only
"""

import re
import sys
import traceback
from pathlib import Path
from types import FrameType

from neox_code.processes.procfs import read_state

NUM_CALLERS = 2
"""Number of calling lines of this package that a report contains, besides the innermost line."""

COLLECTIVES = ("/torch/distributed/", "/deepspeed/comm/")
BLOCKING_LINES = re.compile(r"\.(wait|item|synchronize|tolist|cpu)\(|\bfloat\(")
"""Pattern of a line of Python that waits for a collective operation in another thread or on the GPU."""

NUM_INNERMOST = 8
"""Number of innermost calls that are searched for a collective operation."""


def format_place(thread: int) -> str:
    """Return the innermost line that a thread runs, and the lines of this package that called it."""
    stack = read_stack(thread)
    if not stack:
        return "no Python code"
    *callers, last = stack
    ours = [frame for frame in reversed(callers) if "/neox_code/" in frame.filename][:NUM_CALLERS]
    calls = "".join(f", called from {shorten_path(frame.filename)}:{frame.lineno} ({frame.name})" for frame in ours)
    return f"{shorten_path(last.filename)}:{last.lineno} ({last.name}): {last.line}{calls}"


def shorten_path(filename: str) -> str:
    """Return a file's path beginning at its package.

    >>> shorten_path("/usr/lib/python3.11/site-packages/torch/nn/modules/linear.py"), shorten_path("/home/me/train.py")
    ('torch/nn/modules/linear.py', '/home/me/train.py')
    """
    for mark in ("/site-packages/", "/neox_code/"):
        _, found, after = filename.rpartition(mark)
        if found:
            return after if mark == "/site-packages/" else f"neox_code/{after}"
    return filename


def read_stack(thread: int) -> traceback.StackSummary:
    """Return a thread's stack trace, innermost call last; empty if the thread runs no Python."""
    frame: FrameType | None = sys._current_frames().get(thread)
    return traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()


def is_waiting_for_ranks(thread: int) -> bool:
    """Return True if the thread, or an autograd thread that works for it, waits in an operation with other ranks."""
    stack = read_stack(thread)
    if stack and BLOCKING_LINES.search(stack[-1].line or ""):
        return True
    stacks = [read_stack(other)[-NUM_INNERMOST:] for other in sys._current_frames()]
    return any(part in frame.filename for stack in stacks for frame in stack for part in COLLECTIVES)


def is_waiting_for_disk(native_id: int) -> bool:
    """Return True if the thread, or a child process of its process, waits for a disk or a file server."""
    own = Path("/proc/self/task") / str(native_id)
    try:
        children = (own / "children").read_text().split()
    except OSError:
        children = []
    return any(read_state(folder) == "D" for folder in (own, *(Path("/proc", child) for child in children)))
