"""Speed and memory as the log states them."""

import resource
import sys

import torch

from neox_code.config.neox import NeoXConfig
from neox_code.config.size import training_flops_per_token

PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "H800": 989.0,
    "B200": 2250.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "V100": 125.0,
    "T4": 65.0,
}
"""Dense bf16 (fp16 before Ampere) tensor-core peaks in TFLOP/s, from NVIDIA's data sheets (SXM variants)."""


def peak_tflops(config: NeoXConfig) -> float | None:
    """`peak_theoretical_tflops`, else the peak of a known GPU; None on others and on CPUs."""
    if config.training.peak_theoretical_tflops or not torch.cuda.is_available():
        return config.training.peak_theoretical_tflops
    name = torch.cuda.get_device_name()
    return next((peak for model, peak in PEAK_TFLOPS.items() if model in name), None)


def model_flops_utilization(
    config: NeoXConfig, padded_vocab_size: int, tokens_per_second: float, peak: float | None
) -> float | None:
    """Share of the device's peak that goes into the model's own FLOPs; recomputation does not count."""
    if not peak:
        return None
    flops = training_flops_per_token(config.model, padded_vocab_size, config.model.sample_length)
    return flops * tokens_per_second / (peak * 1e12)


def memory_gib() -> float:
    """Peak memory of this rank: allocated on the GPU, or resident on a machine without."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30
