"""Peak speeds of GPUs, the share of the peak that a model reaches, and the memory of a rank."""

import re
import resource
import sys

import torch

from neox_code.config.model import ModelConfig
from neox_code.config.model_size import compute_training_flops_per_token
from neox_code.config.neox import NeoXConfig

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


def find_peak_tflops(config: NeoXConfig) -> float | None:
    """Return `peak_theoretical_tflops` if it is set, else the peak of a known GPU; None for an unknown GPU or a CPU."""
    if config.training.peak_theoretical_tflops or not torch.cuda.is_available():
        return config.training.peak_theoretical_tflops
    return find_known_peak(torch.cuda.get_device_name())


def compute_flops_utilization(
    model: ModelConfig, padded_vocab_size: int, tokens_per_second: float, peak: float | None
) -> float | None:
    """Return the model FLOP/s (recomputation not counted) divided by the device's peak; None if the peak is not known."""
    if not peak:
        return None
    flops = compute_training_flops_per_token(model, padded_vocab_size, model.sample_length)
    return flops * tokens_per_second / (peak * 1e12)


def read_peak_memory_gib() -> float:
    """Return the peak memory of this rank in GiB: GPU memory allocated by torch, or without GPUs the process's resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30
