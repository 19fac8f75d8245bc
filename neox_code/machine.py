"""Properties of this machine's processor and memory, read with the standard library only."""

import platform
from functools import cache
from pathlib import Path


def read_cpuinfo(path: str | Path = "/proc/cpuinfo") -> str:
    """Return the kernel's description of the CPU; empty if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


@cache
def cpu_computes_bf16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Return True if this machine's CPU has instructions for bf16 (avx512_bf16, amx_bf16, Arm's bf16); others emulate it."""
    return any(word.endswith("bf16") for word in read_cpuinfo(cpuinfo).split())


def read_processor_name() -> str:
    """Return the processor's name; its architecture if the name is not known."""
    names = [line.partition(":")[2].strip() for line in read_cpuinfo().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read_available_bytes(meminfo: str | Path = "/proc/meminfo", cgroup: str | Path = "/sys/fs/cgroup") -> int | None:
    """Return the bytes of memory that a process can still allocate, within the limit of its container; None if it is not known."""
    try:
        lines = Path(meminfo).read_text(encoding="utf-8").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit, used = (int((Path(cgroup) / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no limit: "max"
        return available
    return min(available, limit - used)
