"""Properties of this machine's processor, read with the standard library only."""

from functools import cache
from pathlib import Path


@cache
def cpu_computes_bf16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Return True if this machine's CPU has instructions for bf16 (avx512_bf16, amx_bf16, Arm's bf16); others emulate it."""
    try:
        words = Path(cpuinfo).read_text(encoding="utf-8").split()
    except OSError:
        return False
    return any(word.endswith("bf16") for word in words)
