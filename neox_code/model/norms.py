"""Normalization layers, which the key `norm` selects.

layernorm   (x - mean) / sqrt(variance + layernorm_epsilon) * weight + bias
rmsnorm     x / sqrt(mean of squares + rms_norm_epsilon) * scale                Zhang and Sennrich 2019
"""

import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.parallel.collectives import sum_gradients


class RMSNorm(nn.Module):
    """RMS normalization [..., width] -> [..., width], computed in fp32 and rounded once. `scale` is GPT-NeoX's name of the weight.

    With `group` the weight is shared by the ranks of the group, each of which normalizes its own heads; gradients are summed.
    """

    def __init__(self, width: int, epsilon: float, dtype: torch.dtype, group: ProcessGroup | None = None):
        super().__init__()
        self.group = None if group is None or group.size() == 1 else group
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(width, dtype=dtype))

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(input_, self.scale.shape, sum_gradients(self.scale, self.group), self.epsilon)


class LayerNorm(nn.LayerNorm):
    """torch's layer normalization. With `group` the ranks normalize different positions; gradients are summed."""

    group: ProcessGroup | None = None

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        weight, bias = sum_gradients(self.weight, self.group), sum_gradients(self.bias, self.group)
        return F.layer_norm(input_, self.normalized_shape, weight, bias, self.eps)


def build_norm(model: ModelConfig, dtype: torch.dtype, group: ProcessGroup | None = None) -> nn.Module:
    """Return the configured normalization, [..., H] -> [..., H]; `group` are the ranks that normalize different positions."""
    if model.norm == "rmsnorm":
        return RMSNorm(model.hidden_size, model.rms_norm_epsilon, dtype, group)
    norm = LayerNorm(model.hidden_size, eps=model.layernorm_epsilon, dtype=dtype)
    norm.group = group
    return norm
