"""Causal attention in blocks of queries, for the CPU, where torch's own kernel takes about twice as long.

    context = blocked_attention(query, key, value)         # equals F.scaled_dot_product_attention(..., is_causal=True)

With more keys than queries, the queries are the last positions.

A block of queries is multiplied only with the keys up to its end, so half of the products are not computed, and the block's scores
fit the processor's cache. The probabilities are kept for the backward pass: S * S / 2 numbers for each head.

Shape letters: M sequences times heads, S queries, T >= S keys, D head dimensions, Q queries of a block, K keys up to the block's
end.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

QUERIES_AT_ONCE = 128
LARGEST_PROBABILITIES = 64 << 20
"""Maximum bytes of probabilities that one layer keeps for its backward pass. Above this limit torch's kernel is used, which keeps
fewer bytes."""


def is_better_in_blocks(query_BNSD: torch.Tensor) -> bool:
    """Return True if `blocked_attention` is faster for these queries and its probabilities fit into LARGEST_PROBABILITIES."""
    batch, heads, sequence, _ = query_BNSD.shape
    probabilities = batch * heads * sequence * sequence // 2 * query_BNSD.element_size()
    return query_BNSD.device.type == "cpu" and probabilities <= LARGEST_PROBABILITIES


def blocked_attention(
    query_BNSD: torch.Tensor, key_BGTD: torch.Tensor, value_BGTD: torch.Tensor, slopes: Sequence[float] | None = None
) -> torch.Tensor:
    """Return causal attention, softmax(q k^T / sqrt(D) + alibi) v: [B, N, S, D].

    Each of the G heads of keys and values is shared by N / G heads of queries. `slopes` are ALiBi's, one for each head of queries.
    """
    heads_per_group = query_BNSD.shape[1] // key_BGTD.shape[1]
    if heads_per_group > 1:
        key_BGTD, value_BGTD = key_BGTD.repeat_interleave(heads_per_group, 1), value_BGTD.repeat_interleave(heads_per_group, 1)
    query, key, value = (tensor.flatten(0, 1) for tensor in (query_BNSD, key_BGTD, value_BGTD))
    slopes_M11 = None if slopes is None else query.new_tensor(slopes).repeat(query_BNSD.shape[0])[:, None, None]
    return BlockedAttention.apply(query, key, value, slopes_M11).view(query_BNSD.shape)


def iter_query_blocks(queries: int, keys: int) -> Iterator[tuple[slice, int, int]]:
    """Yield each block's queries, the position of its first query, and the position after its last.

    >>> list(iter_query_blocks(200, 300))
    [(slice(0, 128, None), 100, 228), (slice(128, 200, None), 228, 300)]
    """
    before = keys - queries
    for begin in range(0, queries, QUERIES_AT_ONCE):
        end = min(begin + QUERIES_AT_ONCE, queries)
        yield slice(begin, end), before + begin, before + end


def compute_key_distances(begin: int, end: int, like: torch.Tensor) -> torch.Tensor:
    """Return the positions of keys minus those of queries, for one block of queries: [Q, K]."""
    positions = torch.arange(end, device=like.device)
    return (positions - positions[begin:, None]).to(like.dtype)


class BlockedAttention(torch.autograd.Function):
    """query [M, S, D], key and value [M, T, D] and ALiBi's slopes -> context [M, S, D]."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slopes_M11: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the context [M, S, D]; keep the probabilities if a gradient is needed."""
        query = query * query.shape[-1] ** -0.5
        context = torch.empty_like(query, memory_format=torch.contiguous_format)
        future_QQ = query.new_full((QUERIES_AT_ONCE, QUERIES_AT_ONCE), -torch.inf).triu_(1)
        kept = []
        for block, begin, end in iter_query_blocks(query.shape[1], key.shape[1]):
            scores_MQK = torch.bmm(query[:, block], key[:, :end].transpose(1, 2))
            if slopes_M11 is not None:
                scores_MQK.addcmul_(slopes_M11, compute_key_distances(begin, end, query))
            scores_MQK[:, :, begin:] += future_QQ[: end - begin, : end - begin]
            probabilities_MQK = torch.softmax(scores_MQK, -1)
            context[:, block] = torch.bmm(probabilities_MQK, value[:, :end])
            if any(ctx.needs_input_grad):
                kept.append(probabilities_MQK)
        ctx.save_for_backward(query, key, value, *kept)
        return context

    @staticmethod
    def backward(ctx: Any, upstream_MSD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Return the gradients of query [M, S, D], key and value [M, T, D]."""
        query, key, value, *kept = ctx.saved_tensors
        query_gradient = torch.empty_like(query, memory_format=torch.contiguous_format)
        key_gradient, value_gradient = torch.zeros_like(key), torch.zeros_like(value)
        blocks = iter_query_blocks(query.shape[1], key.shape[1])
        for (block, _, end), probabilities_MQK in zip(blocks, kept, strict=True):
            upstream = upstream_MSD[:, block]
            probability_gradient = torch.bmm(upstream, value[:, :end].transpose(1, 2))
            score_gradient = torch.ops.aten._softmax_backward_data(probability_gradient, probabilities_MQK, -1, query.dtype)
            query_gradient[:, block] = torch.bmm(score_gradient, key[:, :end])
            key_gradient[:, :end] += torch.bmm(score_gradient.transpose(1, 2), query[:, block])
            value_gradient[:, :end] += torch.bmm(probabilities_MQK.transpose(1, 2), upstream)
        return query_gradient * query.shape[-1] ** -0.5, key_gradient, value_gradient, None
