"""Properties of this machine's processors, GPUs and memory, read with the standard library only."""

import platform
import re
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


def read_gpu_names(folder: str | Path = "/proc/driver/nvidia/gpus") -> list[str]:
    """Return the names of this machine's NVIDIA GPUs as the driver lists them; [] without a driver."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*/information"))]
    return [match[1].strip() for text in texts if (match := re.search(r"^Model:(.*)$", text, re.MULTILINE))]


PEAK_TFLOPS = {
    "GB300": 2500.0,
    "GB200": 2500.0,
    "B300": 2250.0,
    "B200": 2250.0,
    "GH200": 989.0,
    "H200 NVL": 835.0,
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "H800 PCIe": 756.0,
    "H800": 989.0,
    "H20": 148.0,
    "A100": 312.0,
    "A800": 312.0,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "V100 PCIE": 112.0,
    "V100": 125.0,
    "T4": 65.0,
}
"""Words in a device's name -> peak in TFLOP/s of its tensor cores: dense bf16 (fp16 before Ampere) with fp32 sums. The first key
whose words are all in a device's name applies. Sources: NVIDIA's data sheets, where figures "with sparsity" are halved (HGX B200
and B300, GB200 and GB300 NVL72, GH200, H200, H100, H20, A100, A30, A10, L40S, L4, V100, T4), and NVIDIA's architecture papers (RTX
Blackwell, Ada GPU, Ampere GA102)."""

OTHER_PARTS = {"d", "ti", "super", "laptop", "max", "mobile", "mig", "grid"}
"""Words in a device's name that mean a variant with another peak, or a part of a device. The table has no peaks for these."""


def find_known_peak(device_name: str) -> float | None:
    """Return the peak of a GPU in TFLOP/s by the driver's device name; None if it is not in the table.

    >>> find_known_peak("NVIDIA H100 80GB HBM3"), find_known_peak("NVIDIA H100 PCIe"), find_known_peak("Tesla V100-SXM2-32GB")
    (989.0, 756.0, 125.0)
    >>> find_known_peak("NVIDIA H20"), find_known_peak("NVIDIA A100-SXM4-80GB MIG 1g.10gb")
    (148.0, None)
    """
    words = set(re.split(r"[\s-]+", device_name.lower()))
    if words & OTHER_PARTS:
        return None
    return next((peak for model, peak in PEAK_TFLOPS.items() if words >= set(model.lower().split())), None)
