"""Where a thread of this process stands: its line of Python, whether it waits for other ranks, and whether for a disk.

place(thread)                   # "neox_code/data/sampler.py:30 (__iter__): time.sleep(60), called from ..."
waits_for_ranks(thread)         # inside a collective, or until the GPU has done its part of one
waits_for_disk(native_id)       # it, or a child process that reads for it; Linux only
"""

import re
import sys
import traceback
from pathlib import Path
from types import FrameType

CALLERS = 2
"""Calls of this package that a place names besides the innermost line."""

COLLECTIVES = ("/torch/distributed/", "/deepspeed/comm/")
WAITS = re.compile(r"\.(wait|item|synchronize|tolist|cpu)\(|\bfloat\(")
"""Lines on which Python waits for a collective that goes on elsewhere."""

INNERMOST = 8
"""A collective stands among so many innermost calls of a thread that waits in it."""


def place(thread: int) -> str:
    """The innermost line, and where this package called it."""
    stack = stack_of(thread)
    if not stack:
        return "no Python code"
    *callers, last = stack
    ours = [frame for frame in reversed(callers) if "/neox_code/" in frame.filename][:CALLERS]
    calls = "".join(f", called from {short(frame.filename)}:{frame.lineno} ({frame.name})" for frame in ours)
    return f"{short(last.filename)}:{last.lineno} ({last.name}): {last.line}{calls}"


def short(filename: str) -> str:
    """A file's path from its package on.

    >>> short("/usr/lib/python3.11/site-packages/torch/nn/modules/linear.py"), short("/home/me/train.py")
    ('torch/nn/modules/linear.py', '/home/me/train.py')
    """
    for mark in ("/site-packages/", "/neox_code/"):
        _, found, after = filename.rpartition(mark)
        if found:
            return after if mark == "/site-packages/" else f"neox_code/{after}"
    return filename


def stack_of(thread: int) -> traceback.StackSummary:
    """The calls that a thread is in, innermost last; none where it runs no Python."""
    frame: FrameType | None = sys._current_frames().get(thread)
    return traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()


def waits_for_ranks(thread: int) -> bool:
    """Whether this thread, or one that computes gradients for it, waits for something that other ranks take part in."""
    stack = stack_of(thread)
    if stack and WAITS.search(stack[-1].line or ""):
        return True
    stacks = [stack_of(other)[-INNERMOST:] for other in sys._current_frames()]
    return any(part in frame.filename for stack in stacks for frame in stack for part in COLLECTIVES)


def waits_for_disk(native_id: int) -> bool:
    """Whether the kernel keeps the thread, or a child process of its process, waiting for a disk or a file server right now."""
    own = Path("/proc/self/task") / str(native_id)
    try:
        children = (own / "children").read_text().split()
    except OSError:
        children = []
    return any(state(Path(folder) / "stat") == "D" for folder in (own, *(f"/proc/{child}" for child in children)))


def state(path: Path) -> str | None:
    try:
        return path.read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
