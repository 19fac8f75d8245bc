"""Attention with ALiBi or within documents on a GPU, by torch's FlexAttention, which compiles a kernel for them.

    block_mask = make_block_mask(length, device, starts_BS)   # once for the layers of a micro batch
    context = flexible_attention(query, key, value, block_mask, slopes)

torch's other fast kernels accept no mask and no bias. FlexAttention has no dropout.
"""

import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


def is_visible(positions_S: torch.Tensor, starts_BS: torch.Tensor) -> torch.Tensor:
    """Return True where a query (second dimension) attends to a key (third): bool [B, S, S]."""
    return (positions_S <= positions_S[:, None]) & (positions_S >= starts_BS[:, :, None])


LATEST: dict[str, Any] = {}
"""The starts of which the latest mask was made (a weak reference), and this mask."""


def make_block_mask(length: int, device: torch.device, starts_BS: torch.Tensor | None) -> BlockMask:
    """Return the mask of queries and keys, causal or within documents. The layers that get the same tensor of starts share it."""
    if starts_BS is None:
        return make_causal_mask(length, device)
    if "starts" not in LATEST or LATEST["starts"]() is not starts_BS:

        def is_same_document(b: torch.Tensor, n: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return (k <= q) & (k >= starts_BS[b, q])

        mask = create_block_mask(is_same_document, len(starts_BS), None, length, length, device=device)
        LATEST.update(starts=weakref.ref(starts_BS), mask=mask)
    return LATEST["mask"]


@cache
def make_causal_mask(length: int, device: torch.device) -> BlockMask:
    return create_block_mask(lambda b, n, q, k: k <= q, None, None, length, length, device=device)


@cache
def compile_flex_attention() -> Any:
    return torch.compile(flex_attention)


def flexible_attention(
    query_BNSD: torch.Tensor,
    key_BGSD: torch.Tensor,
    value_BGSD: torch.Tensor,
    block_mask: BlockMask,
    slopes: Sequence[float] | None,
) -> torch.Tensor:
    """Return softmax(q k^T / sqrt(D) + alibi) v within the mask: [B, N, S, D]. The kernel is compiled on a GPU."""
    add_bias = None
    if slopes is not None:
        slopes_N = torch.tensor(slopes, device=query_BNSD.device)

        def add_bias(score: torch.Tensor, b: Any, n: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return score + slopes_N[n] * (k - q)

    compiles = query_BNSD.device.type == "cuda" and not torch.compiler.is_compiling()
    attend = compile_flex_attention() if compiles else flex_attention
    is_grouped = key_BGSD.shape[1] < query_BNSD.shape[1]
    return attend(query_BNSD, key_BGSD, value_BGSD, score_mod=add_bias, block_mask=block_mask, enable_gqa=is_grouped)
