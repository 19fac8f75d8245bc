"""Cache of attention keys and values of the tokens that a model has read, so that only the new tokens are computed.

    cache = RowCache(config.model, torch.bfloat16)            # one text; it grows as it is read
    view = CacheView([cache], [len(prompt)])                  # one forward pass reads the whole prompt
    hidden_1SH = gpt.hidden(prompt_1S, view)

    view = CacheView([cache, other], [1, 500])                # one pass: a token of one text, and 500 of another
    hidden_1SH = gpt.hidden(tokens_1S, view)                  # S = 501 tokens, the rows one after the other

A pass has no padding: the linear layers read the tokens of all rows (texts) as one sequence; each row attends to its own keys only.
The results of a row therefore do not depend on the other rows.

Shape letters: S new tokens of all rows, N heads, G heads of keys and values, T tokens of a row, D head dimensions.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from itertools import accumulate

import torch
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.alibi import compute_bias
from neox_code.model.blocked_attention import blocked_attention
from neox_code.parallel.allocator import use_huge_pages
from neox_code.parallel.emulated import is_emulated

LENGTH_STEP = 256
"""The capacity of a cache in tokens is a multiple of this number. When a cache grows, its capacity grows by at least a half."""


class RowCache:
    """Keys and values of one text: `tensor` is [layers, 2, G, capacity, D], of which the first `length` tokens are set.

    With `token_smear` the tokens themselves are kept too: `tokens` int64 [1 + capacity], the first of which is -1, for none.
    """

    def __init__(self, model: ModelConfig, dtype: torch.dtype, device: torch.device | str = "cpu", capacity: int = LENGTH_STEP):
        self.max_length = model.max_position_embeddings
        shape = (model.num_layers, 2, model.kv_heads, min(capacity, self.max_length), model.head_dim)
        self.tensor = allocate(torch.empty(0, dtype=dtype, device=device), shape)
        self.tokens = torch.full((1 + shape[3],), -1, device=device) if model.token_smear else None
        self.length = 0

    @property
    def num_bytes(self) -> int:
        return self.tensor.nbytes

    def round_capacity(self, length: int) -> int:
        """Return the smallest capacity for a number of tokens."""
        return min(-(-length // LENGTH_STEP) * LENGTH_STEP, self.max_length)

    def reserve(self, length: int) -> None:
        """Enlarge the capacity to at least `length` tokens. Assert that it is at most the context length."""
        assert length <= self.max_length, f"{length} tokens do not fit a context of {self.max_length}"
        layers, pair, groups, capacity, width = self.tensor.shape
        if length > capacity:
            grown = self.round_capacity(max(length, capacity * 3 // 2))
            tensor = allocate(self.tensor, (layers, pair, groups, grown, width))
            tensor[:, :, :, : self.length] = self.tensor[:, :, :, : self.length]
            self.tensor = tensor
            if self.tokens is not None:
                self.tokens = F.pad(self.tokens, (0, grown - capacity))

    def copy(self, length: int) -> "RowCache":
        """Return a copy of the first `length` tokens, which grows independently."""
        other = copy(self)
        other.length = min(length, self.length)
        capacity = self.round_capacity(max(length, 1))
        other.tensor = self.tensor[:, :, :, :capacity].clone()
        if self.tokens is not None:
            other.tokens = self.tokens[: 1 + capacity].clone()
        return other

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens."""
        assert length <= self.length, f"a cache of {self.length} tokens has no {length}"
        self.length = length


def allocate(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return a tensor that is not initialized, of the dtype and device of `like`."""
    tensor = like.new_empty(tuple(shape))
    if tensor.device.type == "cpu":
        use_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


class CacheView:
    """The new tokens of one forward pass: `counts[i]` tokens of `rows[i]`, one row after the other.

    On a CPU the last `exact_counts[i]` tokens of a row (default 1) have the same bits as if each were read in a pass of its own.
    """

    def __init__(self, rows: Sequence[RowCache], counts: Sequence[int], exact_counts: Sequence[int] | None = None):
        self.rows, self.counts = rows, list(counts)
        self.exact_counts = [1] * len(rows) if exact_counts is None else exact_counts
        for row, count in zip(rows, counts, strict=True):
            row.reserve(row.length + count)
        self.tables: dict[object, tuple[torch.Tensor, torch.Tensor]] = {}
        """cos and sin of `positions_S`, computed once for all layers; the key is the table's settings."""

    @cached_property
    def positions_S(self) -> torch.Tensor:
        device = self.rows[0].tensor.device
        return torch.cat([torch.arange(row.length, row.length + count, device=device) for row, count in self.pairs])

    @cached_property
    def new_2GSD(self) -> list[tuple[torch.Tensor, ...]]:
        """Return for each row and layer the slice of the row's cache for its new tokens."""
        return [row.tensor[:, :, :, row.length : row.length + count].unbind() for row, count in self.pairs]

    @cached_property
    def read_21GTD(self) -> list[tuple[torch.Tensor, ...]]:
        """Return for each row and layer the row's keys and values up to its last new token."""
        return [row.tensor[:, :, None, :, : row.length + count].unbind() for row, count in self.pairs]

    @property
    def pairs(self) -> Iterator[tuple[RowCache, int]]:
        return zip(self.rows, self.counts, strict=True)

    @property
    def exact_places(self) -> list[range]:
        """Return for each row i the indices of its last `exact_counts[i]` tokens in the sequence of new tokens."""
        return [range(end - exact, end) for end, exact in zip(accumulate(self.counts), self.exact_counts, strict=True)]

    def exchange_tokens(self, tokens_1S: torch.Tensor) -> torch.Tensor:
        """Store the new tokens; return the token before each of them, [1, S], and -1 at the start of a text."""
        previous = []
        for (row, count), new in zip(self.pairs, tokens_1S[0].split(self.counts), strict=True):
            assert row.tokens is not None
            row.tokens[row.length + 1 : row.length + 1 + count] = new
            previous.append(row.tokens[row.length : row.length + count])
        return torch.cat(previous)[None]

    def advance(self) -> None:
        """Add the new tokens to the length of each row. Call this after the last layer."""
        for row, count in self.pairs:
            row.length += count

    def attend(
        self, layer_index: int, query_SND: torch.Tensor, key_value_S2GD: torch.Tensor, slopes: tuple[float, ...] | None
    ) -> torch.Tensor:
        """Store a layer's new keys and values; return attention [S, 1, N D]. A query sees its row's keys up to its own position."""
        contexts = []
        queries = query_SND.transpose(0, 1)[None].split(self.counts, dim=2)
        news = key_value_S2GD.permute(1, 2, 0, 3).split(self.counts, dim=2)
        parts = zip(queries, news, self.new_2GSD, self.read_21GTD, self.exact_counts, strict=True)
        for query_1NSD, new_2GSD, place, read, exact_count in parts:
            place[layer_index].copy_(new_2GSD)
            key_1GTD, value_1GTD = read[layer_index].unbind()
            contexts.append(attend_row(query_1NSD, key_1GTD, value_1GTD, slopes, exact_count).transpose(1, 2))
        context_1SND = contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=1)
        return context_1SND.flatten(2).transpose(0, 1)


def attend_row(
    query_1NSD: torch.Tensor,
    key_1GTD: torch.Tensor,
    value_1GTD: torch.Tensor,
    slopes: tuple[float, ...] | None,
    exact_count: int = 1,
) -> torch.Tensor:
    """Return attention [1, N, S, D] for the last S of a row's T tokens. Each token attends to the keys up to its own position.

    On a CPU each of the last `exact_count` tokens is computed alone, so that its result is bitwise equal in any pass.
    """
    if is_emulated(query_1NSD):
        return attend_row(query_1NSD.float(), key_1GTD.float(), value_1GTD.float(), slopes, exact_count).to(query_1NSD.dtype)
    queries, length = query_1NSD.shape[2], key_1GTD.shape[2]
    if queries > 1 and query_1NSD.device.type == "cpu":
        contexts = []
        if earlier := queries - exact_count:
            keys = length - exact_count
            contexts.append(blocked_attention(query_1NSD[:, :, :earlier], key_1GTD[:, :, :keys], value_1GTD[:, :, :keys], slopes))
        for place in range(earlier, queries):
            keys = length - queries + place + 1
            single = attend_row(query_1NSD[:, :, place : place + 1], key_1GTD[:, :, :keys], value_1GTD[:, :, :keys], slopes)
            contexts.append(single)
        return torch.cat(contexts, dim=2)
    mask = None
    if slopes is not None or 1 < queries < length:
        positions_T = torch.arange(length, device=query_1NSD.device)
        positions_S = positions_T[length - queries :]
        mask = (
            positions_T <= positions_S[:, None]
            if slopes is None
            else compute_bias(slopes, positions_S[None], length, query_1NSD.dtype)
        )
    is_grouped = key_1GTD.shape[1] < query_1NSD.shape[1]
    is_causal = mask is None and queries > 1
    return F.scaled_dot_product_attention(query_1NSD, key_1GTD, value_1GTD, mask, is_causal=is_causal, enable_gqa=is_grouped)
