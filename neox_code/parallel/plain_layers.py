"""Whole layers, which `grid.layers` makes where layers are not divided: in generation, in evaluation and at tensor-parallel size 1.

    column = grid.layers.column_linear(768, 3072, torch.bfloat16, initialize)

`divided_layers` has the same four methods for tensor-parallel ranks. The parameters of its layers have the same names, and their
initial values are parts of the same full weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.parallel.emulated import is_faster_in_fp32
from neox_code.parallel.native_kernels import NativeLinear, is_native


@dataclass(frozen=True)
class WeightPart:
    """The part of a full weight that a rank holds."""

    shape: tuple[int, int]
    """Rows and columns of the full weight."""
    rows: tuple[range, ...]
    """Rows of the full weight, in the order of the part's rows."""
    columns: range

    @classmethod
    def whole(cls, rows: int, columns: int) -> "WeightPart":
        return cls((rows, columns), (range(rows),), range(columns))


Initialize = Callable[[torch.Tensor, WeightPart], object]
"""Function that fills a part of a full weight in place, and rounds to the part's type. The values do not depend on the layout."""


class LayerMaker(Protocol):
    """Interface that makes a model's layers. With `initialize=None` a weight is not initialized, because it is loaded later."""

    def column_linear(
        self, input_size: int, output_size: int, dtype: torch.dtype, initialize: Initialize | None, bias: bool = True
    ) -> nn.Module:
        """Return a layer [..., input_size] -> [..., output_size / tensor ranks]."""
        ...

    def row_linear(
        self, input_size: int, output_size: int, dtype: torch.dtype, initialize: Initialize | None, bias: bool = True
    ) -> nn.Module:
        """Return a layer [..., input_size / tensor ranks] -> [..., output_size]. It sums over the ranks and adds the bias once."""
        ...

    def vocab_embedding(self, rows: int, width: int, dtype: torch.dtype, initialize: Initialize | None) -> nn.Module:
        """Return an embedding: ids [...] -> vectors [..., width], which are equal on every tensor rank."""
        ...

    def tied_logits(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return hidden [..., H] times this rank's rows of the embedding: logits [..., V / tensor ranks]."""
        ...


class PlainLinear(nn.Module):
    """y = x W^T + b, [..., input_size] -> [..., output_size]."""

    def __init__(self, input_size: int, output_size: int, dtype: torch.dtype, initialize: Initialize | None, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(make_whole_weight(output_size, input_size, dtype, initialize))
        self.bias = nn.Parameter(torch.zeros(output_size, dtype=dtype)) if bias else None

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        return linear(input_, self.weight, self.bias)


def linear(input_: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return F.linear, computed in the type that is fastest on this device."""
    if is_faster_in_fp32(input_):
        return F.linear(input_.float(), weight.float(), None if bias is None else bias.float()).to(input_.dtype)
    if weight.requires_grad and torch.is_grad_enabled() and is_native(input_) and is_native(weight):
        return NativeLinear.apply(input_, weight, bias)
    return F.linear(input_, weight, bias)


class PlainEmbedding(nn.Module):
    """Ids [...] -> vectors [..., width]."""

    def __init__(self, rows: int, width: int, dtype: torch.dtype, initialize: Initialize | None):
        super().__init__()
        self.weight = nn.Parameter(make_whole_weight(rows, width, dtype, initialize))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight)


def make_whole_weight(rows: int, columns: int, dtype: torch.dtype, initialize: Initialize | None) -> torch.Tensor:
    """Return a whole weight; uninitialized if `initialize` is None."""
    weight = torch.empty(rows, columns, dtype=dtype)
    if initialize is not None:
        initialize(weight, WeightPart.whole(rows, columns))
    return weight


class PlainLayers:
    """The `LayerMaker` of a single process. Every layer is whole."""

    column_linear = staticmethod(PlainLinear)
    row_linear = staticmethod(PlainLinear)
    vocab_embedding = staticmethod(PlainEmbedding)
    tied_logits = staticmethod(linear)
