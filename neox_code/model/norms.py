"""Normalization layers by the config's `norm`."""

import torch
from torch import nn

from neox_code.config.model import ModelConfig


def build_norm(model: ModelConfig, dtype: torch.dtype) -> nn.Module:
    """[..., H] -> [..., H]."""
    return nn.LayerNorm(model.hidden_size, eps=model.layernorm_epsilon, dtype=dtype)
