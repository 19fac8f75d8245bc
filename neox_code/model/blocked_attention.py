"""Causal attention in blocks of queries, for the CPU: torch's own kernel there takes about twice as long.

    context = blocked_attention(query, key, value)         # what F.scaled_dot_product_attention(..., is_causal=True) computes

A block of queries meets only the keys up to its end, so half of the products are never computed, and its scores stay in the
cache. The probabilities are kept for the backward pass: S * S / 2 numbers a head.

Shape letters: M sequences times heads, S positions, D head dimensions, Q queries of a block, K keys up to the block's end.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

QUERIES_AT_ONCE = 128
LARGEST_PROBABILITIES = 64 << 20
"""Bytes kept for a layer's backward pass; above it memory matters more than time."""


def is_better_in_blocks(query_BNSD: torch.Tensor) -> bool:
    """Whether causal self-attention of these queries is to be computed here."""
    batch, heads, sequence, _ = query_BNSD.shape
    probabilities = batch * heads * sequence * sequence // 2 * query_BNSD.element_size()
    return query_BNSD.device.type == "cpu" and probabilities <= LARGEST_PROBABILITIES


def blocked_attention(
    query_BNSD: torch.Tensor, key_BGSD: torch.Tensor, value_BGSD: torch.Tensor, slopes: Sequence[float] | None = None
) -> torch.Tensor:
    """softmax(q k^T / sqrt(D) + alibi) v, causal: [B, N, S, D].

    Each of the G heads of keys and values serves N / G heads of queries. `slopes` are ALiBi's, one a head of queries.
    """
    each = query_BNSD.shape[1] // key_BGSD.shape[1]
    if each > 1:
        key_BGSD, value_BGSD = key_BGSD.repeat_interleave(each, 1), value_BGSD.repeat_interleave(each, 1)
    query, key, value = (tensor.flatten(0, 1) for tensor in (query_BNSD, key_BGSD, value_BGSD))
    slopes_M11 = None if slopes is None else query.new_tensor(slopes).repeat(query_BNSD.shape[0])[:, None, None]
    return BlockedAttention.apply(query, key, value, slopes_M11).view(query_BNSD.shape)


def blocks(sequence: int) -> Iterator[tuple[int, int]]:
    """First query of each block, and the one after its last.

    >>> list(blocks(300))
    [(0, 128), (128, 256), (256, 300)]
    """
    for begin in range(0, sequence, QUERIES_AT_ONCE):
        yield begin, min(begin + QUERIES_AT_ONCE, sequence)


def distances(begin: int, end: int, like: torch.Tensor) -> torch.Tensor:
    """Position of the key less that of the query, in a block of queries: [Q, K]."""
    positions = torch.arange(end, device=like.device)
    return (positions - positions[begin:, None]).to(like.dtype)


class BlockedAttention(torch.autograd.Function):
    """query, key, value [M, S, D] and ALiBi's slopes -> context [M, S, D]."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slopes_M11: torch.Tensor | None
    ) -> torch.Tensor:
        query = query * query.shape[-1] ** -0.5
        context = torch.empty_like(value, memory_format=torch.contiguous_format)
        future_QQ = query.new_full((QUERIES_AT_ONCE, QUERIES_AT_ONCE), -torch.inf).triu_(1)
        kept = []
        for begin, end in blocks(query.shape[1]):
            scores_MQK = torch.bmm(query[:, begin:end], key[:, :end].transpose(1, 2))
            if slopes_M11 is not None:
                scores_MQK.addcmul_(slopes_M11, distances(begin, end, query))
            scores_MQK[:, :, begin:] += future_QQ[: end - begin, : end - begin]
            probabilities_MQK = torch.softmax(scores_MQK, -1)
            context[:, begin:end] = torch.bmm(probabilities_MQK, value[:, :end])
            if any(ctx.needs_input_grad):
                kept.append(probabilities_MQK)
        ctx.save_for_backward(query, key, value, *kept)
        return context

    @staticmethod
    def backward(ctx: Any, upstream_MSD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value, *kept = ctx.saved_tensors
        of_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        of_key, of_value = torch.zeros_like(key), torch.zeros_like(value)
        for (begin, end), probabilities_MQK in zip(blocks(query.shape[1]), kept, strict=True):
            upstream = upstream_MSD[:, begin:end]
            of_probabilities = torch.bmm(upstream, value[:, :end].transpose(1, 2))
            of_scores = torch.ops.aten._softmax_backward_data(of_probabilities, probabilities_MQK, -1, query.dtype)
            of_query[:, begin:end] = torch.bmm(of_scores, key[:, :end])
            of_key[:, :end] += torch.bmm(of_scores.transpose(1, 2), query[:, begin:end])
            of_value[:, :end] += torch.bmm(probabilities_MQK.transpose(1, 2), upstream)
        return of_query * query.shape[-1] ** -0.5, of_key, of_value, None
