"""Frozen weights of linear layers in 8 or 4 bits, under adapters (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).

    quantize_base(module.sequential, 8, grid)

8 bits: integers with an fp32 scale for each row. 4 bits: nf4 of the package bitsandbytes, on GPUs. A product reads the weights that
the bits stand for, in the type of its input, and the gradient of the input is exactly that of this product. The weights themselves
have no gradient; their wide form exists during a product alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed import ReduceOp
from torch.nn import functional as F

from neox_code.errors import ConfigError
from neox_code.model.block import TransformerBlock
from neox_code.parallel.collectives import SumOverRanks, all_reduce, sum_gradients
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.packed import quantize_rows
from neox_code.parallel.plain_layers import PlainLinear


class FrozenProduct(torch.autograd.Function):
    """x W^T, where `read` returns a matrix in each pass whose rows times `scale` [outputs], if it is given, are those of W."""

    @staticmethod
    def forward(ctx: Any, input_: torch.Tensor, read: Callable[[], torch.Tensor], scale: torch.Tensor | None) -> torch.Tensor:
        ctx.read, ctx.scale = read, scale
        output = F.linear(input_, read())
        return output if scale is None else (output * scale).to(input_.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        scaled = gradient if ctx.scale is None else (gradient * ctx.scale).to(gradient.dtype)
        return scaled @ ctx.read(), None, None


class QuantizedBase(nn.Module):
    """A frozen linear layer, or a tensor rank's part of one, in few bits."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Module, bits: int, is_row_parallel: bool, grid: ParallelGrid):
        super().__init__()
        weight = linear.weight
        assert isinstance(weight, torch.Tensor)
        self.dtype, self.is_row_parallel = weight.dtype, is_row_parallel
        self.group = grid.tensor_group if grid.tensor_size > 1 else None
        self.bias = linear.bias
        self.four_bit_state: Any = None
        if bits == 4:
            functional = import_four_bit_functions(grid.device)
            weight, self.four_bit_state = functional.quantize_4bit(
                weight.detach().to(grid.device), quant_type="nf4", compress_statistics=True
            )
            self.register_buffer("weight", weight, persistent=False)
            return
        wide = weight.detach().float()
        greatest = wide.abs().amax(1, keepdim=True)
        if is_row_parallel:  # of the whole row, so that every layout rounds to the same weights
            greatest = all_reduce(greatest, self.group, ReduceOp.MAX)
        integers, scale = quantize_rows(wide, greatest)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("weight", integers, persistent=False)

    def dequantize(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the weight that the bits stand for."""
        if self.four_bit_state is not None:
            functional = import_four_bit_functions(self.weight.device)
            return functional.dequantize_4bit(self.weight, self.four_bit_state).to(dtype or self.dtype)
        return (self.weight * self.scale).to(dtype or self.dtype)

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        if self.group is not None and not self.is_row_parallel:
            input_ = sum_gradients(input_, self.group)
        if self.four_bit_state is None:  # the scales multiply outputs, of which there are fewer than weights
            output = FrozenProduct.apply(input_, partial(self.weight.to, input_.dtype), self.scale[:, 0])
        else:
            output = FrozenProduct.apply(input_, partial(self.dequantize, input_.dtype), None)
        if self.group is not None and self.is_row_parallel:
            output = SumOverRanks.apply(output, self.group)
        return output if self.bias is None else output + self.bias.to(output.dtype)


def import_four_bit_functions(device: torch.device) -> Any:
    """Return bitsandbytes.functional. Raise ConfigError if the package or the GPU is missing."""
    remedy = "Use --set base_bits=8, which CPUs have too."
    if device.type != "cuda":
        raise ConfigError(f"base_bits is 4, which needs a GPU, and the device is {device}. {remedy}")
    try:
        import bitsandbytes.functional
    except ImportError:
        raise ConfigError(
            f"base_bits is 4, but the package bitsandbytes is missing. Run: pip install -e '.[bitsandbytes]'. {remedy}"
        ) from None
    return bitsandbytes.functional


def quantize_base(layers: nn.ModuleDict, bits: int, grid: ParallelGrid) -> None:
    """Replace the linear layers of all blocks, one by one."""
    for block in layers.values():
        if isinstance(block, TransformerBlock):
            for parent in (block.attention, block.mlp):
                for name, child in list(parent.named_children()):
                    if isinstance(child, PlainLinear) or hasattr(child, "sequence_group"):
                        setattr(parent, name, QuantizedBase(child, bits, name in ("dense", "dense_4h_to_h"), grid))
