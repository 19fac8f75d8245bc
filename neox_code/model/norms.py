"""Normalization layers by the config's `norm`.

layernorm   (x - mean) / sqrt(variance + layernorm_epsilon) * weight + bias
rmsnorm     x / sqrt(mean of squares + rms_norm_epsilon) * scale                Zhang and Sennrich 2019
"""

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig


class RMSNorm(nn.Module):
    """[..., width] -> [..., width]; computed in fp32 and rounded once. `scale` is GPT-NeoX's name of the weight."""

    def __init__(self, width: int, epsilon: float, dtype: torch.dtype):
        super().__init__()
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(width, dtype=dtype))

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(input_, self.scale.shape, self.scale, self.epsilon)


def build_norm(model: ModelConfig, dtype: torch.dtype) -> nn.Module:
    """Return the configured normalization, [..., H] -> [..., H]."""
    if model.norm == "rmsnorm":
        return RMSNorm(model.hidden_size, model.rms_norm_epsilon, dtype)
    return nn.LayerNorm(model.hidden_size, eps=model.layernorm_epsilon, dtype=dtype)
