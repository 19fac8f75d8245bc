"""megatron-core's tensor-parallel layers, which `grid.layers` makes at tensor-parallel size 2 and more.

    column_linear   [out, in] divided by rows:     each rank computes its share of the output
    row_linear      [out, in] divided by columns:  each rank takes its share of the input; the sum over ranks is the output
    vocab_embedding [vocabulary, hidden] divided by rows

A layer takes one tensor and returns one tensor. Its state dict holds only weight and bias. Its initial values are a part of a plain
layer's weight, so they do not depend on the layout.
"""

from collections.abc import Callable
from typing import Any

import torch

import neox_code.parallel.megatron_core  # noqa: F401 - imports megatron.core first

# isort: split
from megatron.core.model_parallel_config import ModelParallelConfig
from megatron.core.tensor_parallel.layers import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    linear_with_grad_accumulation_and_async_allreduce,
    set_tensor_model_parallel_attributes,
)
from torch import nn
from torch.distributed import ProcessGroup

from neox_code.parallel.collectives import GatherParts, SumIntoParts, sum_gradients
from neox_code.parallel.emulated import is_faster_in_fp32
from neox_code.parallel.plain_layers import Initialize, WeightPart, linear


class TensorInTensorOut(nn.Module):
    """A mixin for megatron-core's layers. A layer returns a tensor instead of a tuple, has only weight and bias in its state dict,
    and computes products with `multiply`."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    get_extra_state = nn.Module.get_extra_state
    set_extra_state = nn.Module.set_extra_state

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._load_state_dict_pre_hooks.clear()

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        return super().forward(input_)[0]

    def _forward_impl(self, input: torch.Tensor, weight: torch.Tensor, **keywords: Any) -> torch.Tensor:
        return multiply(super()._forward_impl, input, weight, **keywords)  # type: ignore[misc]


class ColumnLinear(TensorInTensorOut, ColumnParallelLinear):
    """With `sequence_group` the input is this rank's part of the positions, [S / ranks, B, ...], and the output [S, B, ...]."""

    sequence_group: ProcessGroup | None = None

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        if self.sequence_group is None:
            return super().forward(input_)
        return linear(GatherParts.apply(input_, self.sequence_group), self.weight, self.bias)


class RowLinear(TensorInTensorOut, RowParallelLinear):
    """With `sequence_group` the input is [S, B, ...], and the output is this rank's part of the positions, [S / ranks, B, ...]."""

    sequence_group: ProcessGroup | None = None

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        if self.sequence_group is None:
            return super().forward(input_)
        output = SumIntoParts.apply(linear(input_, self.weight), self.sequence_group)
        return output if self.bias is None else output + sum_gradients(self.bias, self.sequence_group)


def multiply(
    compute: Callable[..., torch.Tensor], input_: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, **keywords: Any
) -> torch.Tensor:
    """Return megatron-core's matrix product with its collectives, computed in the type that is fastest on this device."""
    if is_faster_in_fp32(input_):
        wide_bias = None if bias is None else bias.float()
        return compute(input=input_.float(), weight=weight.float(), bias=wide_bias, **keywords).to(input_.dtype)
    return compute(input=input_, weight=weight, bias=bias, **keywords)


class DividedLayers:
    """The `LayerMaker` of a tensor-parallel rank: it makes this rank's part of each layer."""

    def __init__(self, tensor_size: int, group: ProcessGroup, sequence_group: ProcessGroup | None = None):
        self.tensor_size = tensor_size
        self.group = group
        self.sequence_group = sequence_group

    def column_linear(
        self, input_size: int, output_size: int, dtype: torch.dtype, initialize: Initialize | None, bias: bool = True
    ) -> nn.Module:
        layer = ColumnLinear(input_size, output_size, bias=bias, **self.shared_arguments(dtype))
        return self.complete(layer, (output_size, input_size), 0, initialize)

    def row_linear(
        self, input_size: int, output_size: int, dtype: torch.dtype, initialize: Initialize | None, bias: bool = True
    ) -> nn.Module:
        shared = self.shared_arguments(dtype)
        layer = RowLinear(input_size, output_size, bias=bias, input_is_parallel=True, skip_bias_add=False, **shared)
        return self.complete(layer, (output_size, input_size), 1, initialize)

    def vocab_embedding(self, rows: int, width: int, dtype: torch.dtype, initialize: Initialize | None) -> nn.Module:
        return self.complete(VocabParallelEmbedding(rows, width, **self.shared_arguments(dtype)), (rows, width), 0, initialize)

    def tied_logits(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return hidden [..., H] times this rank's rows [V / tensor ranks, H] of the embedding: logits [..., V / tensor ranks]."""
        return multiply(
            linear_with_grad_accumulation_and_async_allreduce,
            hidden,
            weight,
            bias=None,
            gradient_accumulation_fusion=False,
            allreduce_dgrad=self.tensor_size > 1,
            sequence_parallel=False,
            tp_group=self.group,
        )

    def shared_arguments(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return the arguments that all megatron-core layers share. The layers get no initial values from megatron-core."""
        config = ModelParallelConfig(
            tensor_model_parallel_size=self.tensor_size,
            params_dtype=dtype,
            use_cpu_initialization=True,  # allocates on torch's default device
            perform_initialization=False,
        )
        return {"config": config, "init_method": None, "tp_group": self.group}

    def complete(self, layer: nn.Module, shape: tuple[int, int], dim: int, initialize: Initialize | None) -> nn.Module:
        """Give this rank's part of a layer its initial values; `shape` is that of the full weight, which is divided along `dim`."""
        weight, bias = layer.weight, getattr(layer, "bias", None)
        assert isinstance(weight, torch.Tensor)
        set_tensor_model_parallel_attributes(weight, True, dim, 1)
        size = shape[dim] // self.tensor_size
        own = range(self.group.rank() * size, (self.group.rank() + 1) * size)
        part = WeightPart(shape, (own,), range(shape[1])) if dim == 0 else WeightPart(shape, (range(shape[0]),), own)
        with torch.no_grad():
            if initialize is not None:
                initialize(weight, part)
            if bias is not None:
                bias.zero_()
        if isinstance(layer, ColumnLinear | RowLinear):
            layer.sequence_group = self.sequence_group
        return layer
