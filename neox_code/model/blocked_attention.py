"""Causal attention in blocks of queries, for the CPU, where torch's own kernel takes about twice as long. In bf16,
`parallel.native_attention` is faster where it can be compiled.

    context = blocked_attention(query, key, value)         # equals F.scaled_dot_product_attention(..., is_causal=True)

With more keys than queries, the queries are the last positions. With the starts of documents, a query attends to the keys of its
document only.

A block of queries is multiplied only with the keys up to its end, so half of the products are not computed, and the block's scores
fit the processor's cache. The probabilities are kept for the backward pass: S * S / 2 numbers for each head.

Shape letters: M sequences times heads, B rows, S queries, T >= S keys, D head dimensions, Q queries of a block, K keys up
to the block's end, in training from the start of its first document on.
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
    return query_BNSD.device.type == "cpu" and probabilities <= LARGEST_PROBABILITIES and not torch.compiler.is_compiling()


def blocked_attention(
    query_BNSD: torch.Tensor,
    key_BGTD: torch.Tensor,
    value_BGTD: torch.Tensor,
    slopes: Sequence[float] | None = None,
    starts_BS: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return causal attention, softmax(q k^T / sqrt(D) + alibi) v: [B, N, S, D].

    Each of the G heads of keys and values is shared by N / G heads of queries. `slopes` are ALiBi's, one for each head of queries.
    `starts_BS` are the first keys that each query attends to (`positions.find_document_starts`).
    """
    heads_per_group = query_BNSD.shape[1] // key_BGTD.shape[1]
    if heads_per_group > 1:
        key_BGTD, value_BGTD = key_BGTD.repeat_interleave(heads_per_group, 1), value_BGTD.repeat_interleave(heads_per_group, 1)
    query, key, value = (tensor.flatten(0, 1).contiguous() for tensor in (query_BNSD, key_BGTD, value_BGTD))  # copied once
    slopes_M11 = None if slopes is None else query.new_tensor(slopes).repeat(query_BNSD.shape[0])[:, None, None]
    return BlockedAttention.apply(query, key, value, slopes_M11, starts_BS).view(query_BNSD.shape)


def iter_query_blocks(queries: int, keys: int, starts_BS: torch.Tensor | None = None) -> Iterator[tuple[slice, slice, int]]:
    """Yield each block's queries, its keys, and the number of these keys before the position of the first query.

    >>> list(iter_query_blocks(200, 300))
    [(slice(0, 128, None), slice(0, 228, None), 100), (slice(128, 200, None), slice(0, 300, None), 228)]
    """
    before = keys - queries
    for begin in range(0, queries, QUERIES_AT_ONCE):
        end = min(begin + QUERIES_AT_ONCE, queries)
        first = 0 if starts_BS is None else int(starts_BS[:, begin].min())  # the starts never decrease in a row
        yield slice(begin, end), slice(first, before + end), before + begin - first


def compute_key_distances(queries_before: int, keys: int, like: torch.Tensor) -> torch.Tensor:
    """Return the positions of keys minus those of queries, for one block of queries: [Q, K]."""
    positions = torch.arange(keys, device=like.device)
    return (positions - positions[queries_before:, None]).to(like.dtype)


class BlockedAttention(torch.autograd.Function):
    """query [M, S, D], key and value [M, T, D], ALiBi's slopes and the starts of documents -> context [M, S, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        slopes_M11: torch.Tensor | None,
        starts_BS: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the context [M, S, D]; keep the probabilities if a gradient is needed."""
        query = query * query.shape[-1] ** -0.5
        context = torch.empty_like(query, memory_format=torch.contiguous_format)
        future_QQ = query.new_full((QUERIES_AT_ONCE, QUERIES_AT_ONCE), -torch.inf).triu_(1)
        kept = []
        ctx.blocks = list(iter_query_blocks(query.shape[1], key.shape[1], starts_BS))
        for block, keys, before in ctx.blocks:
            scores_MQK = torch.bmm(query[:, block], key[:, keys].transpose(1, 2))
            if slopes_M11 is not None:
                scores_MQK.addcmul_(slopes_M11, compute_key_distances(before, scores_MQK.shape[-1], query))
            count = block.stop - block.start
            scores_MQK[:, :, before:] += future_QQ[:count, :count]
            if starts_BS is not None:
                positions_K = torch.arange(keys.start, keys.stop, device=query.device)
                is_earlier_B1QK = (positions_K < starts_BS[:, block, None])[:, None]
                scores_MQK.unflatten(0, (len(starts_BS), -1)).masked_fill_(is_earlier_B1QK, -torch.inf)
            probabilities_MQK = torch.softmax(scores_MQK, -1)
            context[:, block] = torch.bmm(probabilities_MQK, value[:, keys])
            if any(ctx.needs_input_grad):
                kept.append(probabilities_MQK)
        ctx.save_for_backward(query, key, value, *kept)
        return context

    @staticmethod
    def backward(ctx: Any, upstream_MSD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        """Return the gradients of query [M, S, D], key and value [M, T, D]."""
        query, key, value, *kept = ctx.saved_tensors
        query_gradient = torch.empty_like(query, memory_format=torch.contiguous_format)
        key_gradient, value_gradient = torch.zeros_like(key), torch.zeros_like(value)
        for (block, keys, _), probabilities_MQK in zip(ctx.blocks, kept, strict=True):
            upstream = upstream_MSD[:, block].contiguous()  # one copy for two products
            probability_gradient = torch.bmm(upstream, value[:, keys].transpose(1, 2))
            score_gradient = torch.ops.aten._softmax_backward_data(probability_gradient, probabilities_MQK, -1, query.dtype)
            query_gradient[:, block] = torch.bmm(score_gradient, key[:, keys])
            key_gradient[:, keys] += torch.bmm(score_gradient.transpose(1, 2), query[:, block])
            value_gradient[:, keys] += torch.bmm(probabilities_MQK.transpose(1, 2), upstream)
        return query_gradient.mul_(query.shape[-1] ** -0.5), key_gradient, value_gradient, None, None
