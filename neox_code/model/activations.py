"""Activations of the feed-forward layer, which the key `activation` selects.

A gated activation computes up * function(gate); up and gate are the two halves of one tensor. Shazeer 2020, "GLU Variants Improve
Transformer".
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.parallel.native_kernels import NativeSwiglu, NativeTanhGelu, is_native

Function = Callable[[torch.Tensor], torch.Tensor]

PLAIN: dict[str, Function] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "softsign": F.softsign,
    "swish": F.silu,
    "silu": F.silu,
    "mish": F.mish,
}


def tanh_gelu(x: torch.Tensor) -> torch.Tensor:
    """Return GELU by its tanh approximation."""
    if x.requires_grad and torch.is_grad_enabled() and is_native(x):
        return NativeTanhGelu.apply(x)
    return F.gelu(x, approximate="tanh")


GATES: dict[str, Function] = {
    "geglu": F.gelu,
    "reglu": F.relu,
    "swiglu": F.silu,
    "glu": torch.sigmoid,
    "bilinear": nn.Identity(),
}


def build_activation(model: ModelConfig) -> Function:
    """Return the function [..., I] -> [..., I]; if it is gated, [..., 2 I] -> [..., I] with up before gate.

    With `bias_gelu_fusion` the function for gelu is the tanh approximation, as in GPT-NeoX's fused kernel, which has no gated form.
    """
    if model.is_gated:
        return partial(apply_gate, GATES[model.activation])
    if model.activation == "gelu" and model.bias_gelu_fusion:
        return tanh_gelu
    return PLAIN[model.activation]


def apply_gate(function: Function, up_and_gate: torch.Tensor) -> torch.Tensor:
    if function is F.silu and up_and_gate.requires_grad and torch.is_grad_enabled() and is_native(up_and_gate):
        return NativeSwiglu.apply(up_and_gate)
    up, gate = up_and_gate.chunk(2, dim=-1)
    return up * function(gate)
