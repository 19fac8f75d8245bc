"""Activations of the feed-forward layer."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from neox_code.config.model import ModelConfig


def build_activation(model: ModelConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    """The exact GELU, or its tanh approximation with `bias_gelu_fusion` (what GPT-NeoX's fused kernel computes)."""
    return partial(F.gelu, approximate="tanh" if model.bias_gelu_fusion else "none")
