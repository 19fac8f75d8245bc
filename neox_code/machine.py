"""What this machine's processor can do, found out with the standard library alone."""

from functools import cache
from pathlib import Path


@cache
def cpu_computes_bf16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether this machine's CPU has instructions for bf16 (avx512_bf16, amx_bf16, Arm's bf16). Without them bf16 is emulated."""
    try:
        words = Path(cpuinfo).read_text(encoding="utf-8").split()
    except OSError:
        return False
    return any(word.endswith("bf16") for word in words)
