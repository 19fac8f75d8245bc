"""The state of a thread of this process: the line of Python it runs, and whether it waits for other ranks or for a disk.

format_place(thread)            # "neox_code/data/sampler.py:30 (__iter__): time.sleep(60), called from ..."
is_waiting_for_ranks(thread)    # True inside a collective, or while waiting for the GPU's part of one
is_waiting_for_disk(native_id)  # True for the thread or a child process that reads for it; Linux only
"""

import re
import sys
import traceback
from pathlib import Path
from types import FrameType

from neox_code.processes.procfs import read_state

NUM_CALLERS = 2
"""Calls of this package that are shown beside the innermost line."""

COLLECTIVES = ("/torch/distributed/", "/deepspeed/comm/")
BLOCKING_LINES = re.compile(r"\.(wait|item|synchronize|tolist|cpu)\(|\bfloat\(")
"""Lines on which Python waits for a collective that runs in another thread or on the GPU."""

NUM_INNERMOST = 8
"""A thread that waits in a collective has a frame of it among this many innermost calls."""


def format_place(thread: int) -> str:
    """Return the innermost line of a thread, and the calls of this package that led to it."""
    stack = read_stack(thread)
    if not stack:
        return "no Python code"
    *callers, last = stack
    ours = [frame for frame in reversed(callers) if "/neox_code/" in frame.filename][:NUM_CALLERS]
    calls = "".join(f", called from {shorten_path(frame.filename)}:{frame.lineno} ({frame.name})" for frame in ours)
    return f"{shorten_path(last.filename)}:{last.lineno} ({last.name}): {last.line}{calls}"


def shorten_path(filename: str) -> str:
    """Return a file's path from its package on.

    >>> shorten_path("/usr/lib/python3.11/site-packages/torch/nn/modules/linear.py"), shorten_path("/home/me/train.py")
    ('torch/nn/modules/linear.py', '/home/me/train.py')
    """
    for mark in ("/site-packages/", "/neox_code/"):
        _, found, after = filename.rpartition(mark)
        if found:
            return after if mark == "/site-packages/" else f"neox_code/{after}"
    return filename


def read_stack(thread: int) -> traceback.StackSummary:
    """Return the calls that a thread is in, innermost last; empty if it runs no Python."""
    frame: FrameType | None = sys._current_frames().get(thread)
    return traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()


def is_waiting_for_ranks(thread: int) -> bool:
    """Return True if the thread, or one that computes gradients for it, waits in an operation that other ranks take part in."""
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
