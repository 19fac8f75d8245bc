"""Compiled passes over large bf16 tensors in a training step on a CPU (training.cpp), where torch's operators take several passes.

    if is_native(tensor):                     # False on a GPU, for other types, without a compiler, and under torch.compile
        highest, sums = sum_exponentials(logits_RV, count)

A caller has torch's own operators for the other case. Both round to bf16 once; sums are in another order.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from neox_code.native_library import load_library

SOURCE = Path(__file__).with_name("training.cpp")
ELEMENTS_OF_A_SUM = 1 << 14
"""`BLOCK` of training.cpp: number of elements of which `sum_squares_of_blocks` returns one sum."""


class AdamWStep(ctypes.Structure):
    """`AdamW` of training.cpp: gradients are divided by `scale`; a correction is 1 - beta^updates."""

    _fields_ = [
        (name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "epsilon", "decay", "scale", "correction1", "correction2")
    ]


@cache
def load_kernels() -> ctypes.CDLL | None:
    """Return the compiled functions; None without a compiler."""
    return load_library(SOURCE, "training")


def is_native(tensor: torch.Tensor, dtypes: Sequence[torch.dtype] = (torch.bfloat16,)) -> bool:
    """Return True if the functions of this module take this tensor. `dtypes` are those of which the caller's function is."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in dtypes
        and tensor.is_contiguous()
        and not torch.compiler.is_compiling()
        and load_kernels() is not None
    )


def call(name: str, *arguments: torch.Tensor | int | ctypes.Structure | None) -> None:
    """Call a function with pointers to the tensors' numbers, 64-bit integers, and the number of threads."""
    values: list[Any] = []
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            values.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, ctypes.Structure):
            values.append(ctypes.byref(argument))
        else:
            values.append(None if argument is None else ctypes.c_int64(argument))
    getattr(load_kernels(), name)(*values, ctypes.c_int64(torch.get_num_threads()))


def sum_exponentials(logits_RV: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return of each row the maximum of its first `count` logits, and the sum of their exponentials minus it: fp32, [R] each."""
    highest, sums = (torch.empty(len(logits_RV), dtype=torch.float32) for _ in range(2))
    call("sum_exponentials", logits_RV, *logits_RV.shape, count, highest, sums)
    return highest, sums


def replace_by_gradients(
    logits_RV: torch.Tensor, count: int, highest: torch.Tensor, totals: torch.Tensor, factors: torch.Tensor, columns: torch.Tensor
) -> None:
    """Replace logits by factor * (exp(logit - highest) / total - one-hot), and by 0 from column `count` on.

    `highest`, `totals` and `factors` are fp32 [R]; `columns` are the labels' columns, int64 [R], or -1.
    """
    values = (value.contiguous() for value in (highest, totals, factors, columns))
    call("replace_by_gradients", logits_RV, *logits_RV.shape, count, *values)


class NativeTanhGelu(torch.autograd.Function):
    """GELU by its tanh approximation, for tensors with `is_native`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        call("gelu_forward", x, out, x.numel())
        return out

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        call("gelu_backward", x, upstream.contiguous(), out, x.numel())
        return out


class NativeSwiglu(torch.autograd.Function):
    """Up and gate [..., 2 I] -> up * silu(gate) [..., I], for tensors with `is_native`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        width = x.shape[-1] // 2
        out = x.new_empty(*x.shape[:-1], width)
        call("swiglu_forward", x, out, out.numel() // width, width)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        width = x.shape[-1] // 2
        call("swiglu_backward", x, upstream.contiguous(), out, upstream.numel() // width, width)
        return out


class NativeLinear(torch.autograd.Function):
    """F.linear of contiguous bf16 tensors. The backward pass transposes the gradient of the output, since torch's product of a
    transposed matrix is slow, and adds its columns in the same pass, which is the gradient of the bias."""

    @staticmethod
    def forward(ctx: Any, input_: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(input_, weight)
        ctx.has_bias = bias is not None
        return torch.nn.functional.linear(input_, weight, bias)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        input_, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        rows = upstream.reshape(-1, len(weight))
        input_gradient = (rows @ weight).view(input_.shape) if needs_input else None
        if not (needs_weight or needs_bias):
            return input_gradient, None, None
        transposed, bias_gradient = transpose(rows, needs_bias)
        return input_gradient, transposed @ input_.reshape(-1, input_.shape[-1]) if needs_weight else None, bias_gradient


def transpose(matrix_RC: torch.Tensor, has_sums: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the transposed matrix [C, R], and the sums of the columns [C], added in fp32, if `has_sums`."""
    rows, columns = matrix_RC.shape
    transposed = matrix_RC.new_empty(columns, rows)
    sums = matrix_RC.new_empty(columns) if has_sums else None
    call("transpose", matrix_RC.contiguous(), rows, columns, transposed, sums)
    return transposed, sums


def scale(tensor: torch.Tensor, factor: torch.Tensor) -> None:
    """Multiply a tensor with `is_native` by an fp32 scalar in place."""
    call("scale", tensor, factor, tensor.numel())


def sum_squares(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of squares of a flat bf16 or fp32 tensor: a fp64 scalar."""
    sums = torch.zeros(-(-tensor.numel() // ELEMENTS_OF_A_SUM), dtype=torch.float64)
    call("sum_squares_of_blocks", tensor, int(tensor.dtype == torch.bfloat16), tensor.numel(), sums)
    return sums.sum()


def update_adamw(
    step: AdamWStep,
    master: torch.Tensor,
    moment: torch.Tensor,
    square: torch.Tensor,
    gradient: torch.Tensor,
    weights: torch.Tensor | None,
) -> None:
    """Update flat fp32 weights and moments by a bf16 or fp32 gradient; write the new weights to the bf16 tensor `weights` too."""
    is_bf16 = int(gradient.dtype == torch.bfloat16)
    call("update_adamw", step, master, moment, square, gradient, is_bf16, weights, master.numel())
