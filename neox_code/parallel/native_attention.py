"""Causal attention of whole rows on a CPU in compiled code (attention.cpp), from the fused projection to the context.

    if is_native_attention(fused_BSF):
        context_BSM = native_attention(fused_BSF, form, rotary, norm_scales, starts_BS, slopes)

It normalizes and rotates queries and keys in the same pass, reads all of them where the projection has written them, and keeps for
the backward pass only its inputs, its output and one number per query. Queries, keys and probabilities are rounded to bf16 once.

Shape letters: B batch, S sequence, F = (N + 2 G) D columns of the fused projection, M = N D, N heads, G groups of heads that share
keys and values, D head dimensions.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from neox_code.machine import cpu_computes_bf16
from neox_code.native_library import load_library

SOURCE = Path(__file__).with_name("attention.cpp")

TENSORS = (
    *("fused", "query_scale", "key_scale", "cos", "sin", "starts", "slopes", "context", "log_sums"),
    *("upstream", "gradient", "scale_gradients"),
)
"""The tensors of a call; the backward pass has also the last three: the gradients of the context, of `fused`, and of the scales."""
NUMBERS = ("batch_stride", "row_stride", "angle_stride", "half", "batch", "length", "heads", "groups", "head_dim")
OFFSETS = ("query_step", "key_step", "key_offset", "value_offset")


class Call(ctypes.Structure):
    """`Attention` of attention.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in TENSORS),
        *((name, ctypes.c_int64) for name in (*NUMBERS, *OFFSETS)),
        ("epsilon", ctypes.c_double),
    ]


@dataclass(frozen=True)
class HeadForm:
    """Number and size of the heads, and the epsilon of their norm. The order of the fused columns is that of `model.attention`."""

    heads: int
    groups: int
    head_dim: int
    is_grouped: bool
    epsilon: float = 0.0


@cache
def load_attention() -> ctypes.CDLL | None:
    """Return the compiled functions; None without a compiler, or if this processor has no instructions for bf16 products."""
    library = load_library(SOURCE, "training") if cpu_computes_bf16() else None
    return library if library is not None and library.is_fast() else None


def is_native_attention(fused_BSF: torch.Tensor) -> bool:
    """Return True if `native_attention` takes this tensor."""
    return (
        fused_BSF.device.type == "cpu"
        and fused_BSF.dtype == torch.bfloat16
        and fused_BSF.stride(-1) == 1
        and not torch.compiler.is_compiling()
        and load_attention() is not None
    )


def native_attention(
    fused_BSF: torch.Tensor,
    form: HeadForm,
    rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
    norm_scales: tuple[torch.Tensor, torch.Tensor] | None = None,
    starts_BS: torch.Tensor | None = None,
    slopes: Sequence[float] | None = None,
) -> torch.Tensor:
    """Return causal attention, softmax(q k^T / sqrt(D) + alibi) v: bf16 [B, S, M].

    `rotary` are cos and sin, bf16 [S, 1, R] or [B, S, 1, R]. `norm_scales` are the weights [D] of the norms of queries and keys.
    `starts_BS` are the first keys that each query attends to, int32. `slopes` are ALiBi's, one for each head of queries.
    """
    return NativeAttention.apply(fused_BSF, *(norm_scales or (None, None)), *(rotary or (None, None)), starts_BS, slopes, form)


class NativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fused_BSF: torch.Tensor,
        query_scale: torch.Tensor | None,
        key_scale: torch.Tensor | None,
        cos: torch.Tensor | None,
        sin: torch.Tensor | None,
        starts_BS: torch.Tensor | None,
        slopes: Sequence[float] | None,
        form: HeadForm,
    ) -> torch.Tensor:
        """Return the context [B, S, M]; keep the inputs, the context and the logarithms of the sums [B, N, S]."""
        batch, length, _ = fused_BSF.shape
        context_BSM = fused_BSF.new_empty(batch, length, form.heads * form.head_dim)
        log_sums_BNS = fused_BSF.new_empty(batch, form.heads, length, dtype=torch.float32)
        others = [None if tensor is None else tensor.contiguous() for tensor in (query_scale, key_scale, cos, sin, starts_BS)]
        slopes_N = None if slopes is None else torch.tensor(slopes, dtype=torch.float32)
        tensors: tuple[Any, ...] = (fused_BSF, *others, slopes_N, context_BSM, log_sums_BNS)
        call("attend", form, tensors)
        ctx.save_for_backward(*tensors)
        ctx.form = form
        return context_BSM

    @staticmethod
    def backward(ctx: Any, upstream_BSM: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of the fused projection [B, S, F] and of the norms' scales [D]."""
        fused_BSF, query_scale, *_ = tensors = ctx.saved_tensors
        form = ctx.form
        gradient_BSF = torch.empty(fused_BSF.shape, dtype=fused_BSF.dtype)
        parts = None if query_scale is None else torch.empty(fused_BSF.shape[0] * form.groups, 2, form.head_dim)
        call("differentiate_attention", form, (*tensors, upstream_BSM.contiguous(), gradient_BSF, parts))
        scale_gradients = (None, None) if parts is None else parts.sum(0).to(query_scale.dtype).unbind()
        return gradient_BSF, *scale_gradients, None, None, None, None, None


def call(name: str, form: HeadForm, tensors: Sequence[torch.Tensor | None]) -> None:
    """Call a function of attention.cpp. The tensors are those of TENSORS, in its order; the last ones may be left out."""
    named = {key: tensor for key, tensor in zip(TENSORS, tensors, strict=False) if tensor is not None}
    fused_BSF, cos = named["fused"], named.get("cos")
    heads, groups, width = form.heads, form.groups, form.head_dim
    angle_stride, half = (0, 0) if cos is None else (cos[0].numel() if cos.dim() == 4 else 0, cos.shape[-1])
    steps = (width, width, heads * width, (heads + groups) * width) if form.is_grouped else (3 * width, 3 * width, width, 2 * width)
    numbers = (*fused_BSF.stride()[:2], angle_stride, half, *fused_BSF.shape[:2], heads, groups, width)
    structure = Call(
        **{key: tensor.data_ptr() for key, tensor in named.items()},
        **dict(zip((*NUMBERS, *OFFSETS), (*numbers, *steps), strict=True)),
        epsilon=form.epsilon,
    )
    getattr(load_attention(), name)(ctypes.byref(structure), ctypes.c_int64(torch.get_num_threads()))
