"""Set the C allocator for tensors on the CPU: call `keep_freed_memory` before the first large tensor is allocated.

Every step frees and allocates the same hundreds of megabytes. By default glibc gets each large block from the kernel and returns it
at `free`. The page faults of new blocks take about a fifth of a training step. Settings that glibc reads only at a process's start
are in launch/command.py. GPU memory has torch's own caching allocator.
"""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3), from glibc's malloc.h."""


def keep_freed_memory(top_pad_bytes: int = 64 << 20) -> bool:
    """Make glibc keep freed blocks for the next allocation. Return True if the C library accepted the settings (musl has none)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_TOP_PAD, top_pad_bytes)])
