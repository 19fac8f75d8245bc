"""Convert the weights of linear layers to the memory layout in which the CPU computes products fastest, for inference.

    pack_weights(gpt)                         # bf16 weights get the order of the CPU's bf16 kernels, if it has such kernels
    pack_weights(gpt, load_in_8bit=True)      # all weights of linear layers become 8-bit integers

A plain bf16 weight is reordered at every call. For a single token this takes as long as the product itself.
"""

import ctypes

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.machine import cpu_computes_bf16
from neox_code.parallel.plain_layers import PlainLinear

SMALLEST = 1e-30
"""Minimum of the largest absolute value from which a scale is computed, so that a vector of zeros also has a nonzero scale."""


class PackedLinear(nn.Module):
    """y = x W^T + b with a reordered copy of a PlainLinear's weight. It has no gradients and no state dict."""

    def __init__(self, linear: PlainLinear):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.block = find_block(linear.weight.detach(), self.weight)
        """Number B of rows that the layout [rows / B, columns / 2, B, 2] stores together; 0 if the weight has another layout."""
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.activation = ("none", "")
        """Name and algorithm of a function of the output, applied before rounding: "none", or "gelu" with "none" or "tanh"."""

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        name, algorithm = self.activation
        return torch.ops.mkldnn._linear_pointwise(input_, self.weight, self.bias, name, [], algorithm)


def find_block(weight: torch.Tensor, packed: torch.Tensor) -> int:
    """Return B, the number of rows in a block, if oneDNN's layout is [rows / B, columns / 2, B, 2], padded with zeros; otherwise 0.

    The first and the last block are compared.
    """
    num_bytes = torch.ops.mkldnn._nbytes(packed)
    stored = torch.frombuffer((ctypes.c_char * num_bytes).from_address(torch.ops.mkldnn.data_ptr(packed)), dtype=weight.dtype)
    rows, columns = weight.shape
    for block in (32, 64):
        count = -(-rows // block)
        last = F.pad(weight[(count - 1) * block :], (0, 0, 0, -rows % block))
        first_and_last = F.pad(torch.stack([F.pad(weight[:block], (0, 0, 0, block - min(block, rows))), last]), (0, -columns % 32))
        expected = first_and_last.unflatten(2, (-1, 2)).transpose(1, 2)
        if count * expected[0].numel() == len(stored) and torch.equal(stored.view(count, *expected[0].shape)[[0, -1]], expected):
            return block
    return 0


class QuantizedLinear(nn.Module):
    """y = x W^T + b with products of 8-bit integers. Each row of W has a fixed scale; each input vector's scale is computed.

    The sums are exact integers, so the result of a vector does not depend on the other vectors of a batch.
    """

    def __init__(self, linear: PlainLinear):
        super().__init__()
        weight = linear.weight.detach().float()
        self.weight, scale = quantize_rows(weight, weight.abs().amax(1, keepdim=True))
        self.scale = scale[:, 0]
        self.bias = torch.zeros_like(self.scale) if linear.bias is None else linear.bias.detach().float()
        self.activation = ("none", "")
        """Name and algorithm of a function that is applied to the output before rounding, as in PackedLinear."""

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        vectors = input_.flatten(0, -2).float()
        scale = vectors.abs().amax(1, keepdim=True).clamp_(min=SMALLEST) / 127
        sums = torch._int_mm((vectors / scale).round_().to(torch.int8), self.weight.t())
        output = torch.addcmul(self.bias, sums * scale, self.scale)
        if self.activation[0] == "gelu":
            output = F.gelu(output, approximate=self.activation[1])
        return output.to(input_.dtype).unflatten(0, input_.shape[:-1])


def quantize_rows(weight: torch.Tensor, greatest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an fp32 matrix, which is overwritten, as 8-bit integers, and the scale of each row [rows, 1].

    `greatest` [rows, 1] is the largest absolute value of each row, for a part of a matrix that of the whole row.
    """
    scale = greatest.clamp(min=SMALLEST) / 127
    return weight.div_(scale).round_().to(torch.int8), scale


def can_be_packed(module: nn.Module) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return module.weight.dtype == torch.bfloat16 and module.weight.device.type == "cpu" and cpu_computes_bf16()


def pack_weights(model: nn.Module, load_in_8bit: bool = False) -> None:
    """Replace all linear layers inside `model`, one by one, so that only one weight at a time is in memory twice."""
    for parent in [module for module in model.modules() if not isinstance(module, PlainLinear)]:  # a list of all would keep them
        for name in [name for name, child in parent.named_children() if isinstance(child, PlainLinear)]:
            if load_in_8bit:
                setattr(parent, name, QuantizedLinear(getattr(parent, name)))
            elif can_be_packed(getattr(parent, name)):
                setattr(parent, name, PackedLinear(getattr(parent, name)))
