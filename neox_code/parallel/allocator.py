"""Set the allocator of tensors: call `set_allocator` before the first large tensor is allocated.

Every step frees and allocates the same hundreds of megabytes. By default glibc gets each large block from the kernel and returns it
at `free`. The page faults of new blocks take about a fifth of a training step. Settings that glibc reads only at a process's start
are in launch/command.py.

torch's allocator of GPU memory gets expandable segments: a step whose tensors have other sizes then leaves no unusable gaps.
"""

import ctypes
import mmap
import os

import torch

GPU_VARIABLE, GPU_SETTINGS = "PYTORCH_ALLOC_CONF", "expandable_segments:True"
FORMER_GPU_VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3), from glibc's malloc.h."""


def keep_freed_memory(top_pad_bytes: int = 64 << 20) -> bool:
    """Make glibc keep freed blocks for the next allocation. Return True if the C library accepted the settings (musl has none)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_TOP_PAD, top_pad_bytes)])


MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25
"""Advice of madvise(2): use huge pages from now on; copy what is there into huge pages (Linux 6.1)."""
HUGE_PAGE_BYTES = 2 << 20


def use_huge_pages(address: int, num_bytes: int) -> None:
    """Keep this memory, filled or not, in pages of 2 MiB where the kernel can: a core reads it about a sixth faster."""
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    begin = -(-address // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    num_bytes = (address + num_bytes - begin) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    if madvise is None or num_bytes <= 0 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):
        madvise(ctypes.c_void_p(begin), ctypes.c_size_t(num_bytes), advice)


def set_allocator(device: torch.device) -> None:
    """Set the allocator of this device's memory. Variables that the user has set are kept."""
    if device.type == "cpu":
        keep_freed_memory()
    elif FORMER_GPU_VARIABLE not in os.environ:
        os.environ.setdefault(GPU_VARIABLE, GPU_SETTINGS)
