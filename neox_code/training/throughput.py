"""The share of a GPU's peak speed that a model reaches, and the memory of a rank."""

import resource
import sys

import torch

from neox_code.config.model import ModelConfig
from neox_code.config.model_size import compute_training_flops_per_token
from neox_code.config.neox import NeoXConfig
from neox_code.machine import find_known_peak


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
