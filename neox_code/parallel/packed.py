"""Weights in the order in which the CPU's bf16 kernels read them, for inference.

    pack_weights(gpt)                    # every PlainLinear with bf16 weights on a CPU that computes bf16 becomes a PackedLinear

A plain weight is reordered at every call. For a single token this takes as long as the product itself.
"""

import torch
from torch import nn

from neox_code.machine import cpu_computes_bf16
from neox_code.parallel.plain_layers import PlainLinear


class PackedLinear(nn.Module):
    """y = x W^T + b with a reordered copy of a PlainLinear's weight. It has no gradients and no state dict."""

    def __init__(self, linear: PlainLinear):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.activation = ("none", "")
        """Function of the output that is computed before it is rounded, and its algorithm; "gelu" has "none" (exact) and "tanh"."""

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        name, algorithm = self.activation
        return torch.ops.mkldnn._linear_pointwise(input_, self.weight, self.bias, name, [], algorithm)


def can_be_packed(module: nn.Module) -> bool:
    if not isinstance(module, PlainLinear) or not torch.backends.mkldnn.is_available():
        return False
    return module.weight.dtype == torch.bfloat16 and module.weight.device.type == "cpu" and cpu_computes_bf16()


def pack_weights(model: nn.Module) -> None:
    """Replace the layers below `model` one by one, so that only one weight at a time is in memory twice."""
    for parent in [module for module in model.modules() if not isinstance(module, PlainLinear)]:  # a list of all would keep them
        for name in [name for name, child in parent.named_children() if can_be_packed(child)]:
            setattr(parent, name, PackedLinear(getattr(parent, name)))
