"""Keys and values of the tokens that a model has read, so that only the new tokens are computed.

    cache = KVCache.allocate(config.model, batch_size=2, max_length=256, dtype=torch.bfloat16)
    logits = model(prompts_BS, cache)            # reads S tokens a row
    cache.set_lengths(true_lengths_B)            # drops the padding on the right of rows shorter than S
    logits = model(next_tokens_B1, cache)        # continues at the length of each row

Rows may have different lengths. A query at position p attends to the keys at positions 0 to p of its own row only:

    row 0, length 3   k k k . .        row 1, length 5   k k k k k

Shape letters: B batch, N heads of keys and values of this rank, T the cache's length, D head dimensions, S new tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from neox_code.config.model import ModelConfig
from neox_code.model.alibi import compute_bias


@dataclass
class LayerCache:
    """One layer's keys and values, each [B, N, T, D]."""

    keys_BNTD: torch.Tensor
    values_BNTD: torch.Tensor


@dataclass
class KVCache:
    layers: list[LayerCache]
    max_length: int
    lengths: list[int] = field(default_factory=list)
    """Number of tokens read in each row."""

    @classmethod
    def allocate(
        cls,
        model: ModelConfig,
        batch_size: int,
        max_length: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        tensor_size: int = 1,
    ) -> "KVCache":
        """Return an empty cache: 2 * layers * B * N * T * D numbers."""
        shape = (batch_size, model.kv_heads // tensor_size, max_length, model.head_dim)
        zeros = lambda: torch.zeros(shape, dtype=dtype, device=device)  # noqa: E731
        layers = [LayerCache(zeros(), zeros()) for _ in range(model.num_layers)]
        return cls(layers, max_length, [0] * batch_size)

    @property
    def is_uniform(self) -> bool:
        """True if all rows have the same length."""
        return min(self.lengths) == max(self.lengths)

    def set_lengths(self, lengths: list[int]) -> None:
        """Keep the first `lengths[i]` tokens of row i. New tokens overwrite the tokens after these."""
        assert all(new <= old for new, old in zip(lengths, self.lengths, strict=True)), "a row of a cache can only be shortened"
        self.lengths = list(lengths)

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Keep only these rows, which become rows 0, 1, ... in the given order."""
        for layer in self.layers:
            layer.keys_BNTD, layer.values_BNTD = layer.keys_BNTD[list(rows)], layer.values_BNTD[list(rows)]
        self.lengths = [self.lengths[row] for row in rows]

    def advance(self, count: int) -> None:
        self.lengths = [length + count for length in self.lengths]

    def view(self, new_tokens: int, device: torch.device) -> "CacheView":
        """Return the positions and the mask of the next `new_tokens` tokens of each row. Assert that `max_length` is enough."""
        longest = max(self.lengths) + new_tokens
        assert longest <= self.max_length, f"{longest} tokens do not fit a cache of {self.max_length}"
        steps = torch.arange(new_tokens, device=device)
        if self.is_uniform:
            positions = steps + self.lengths[0]
            mask = None if new_tokens == 1 else causal_mask(positions[None], longest)
            return CacheView(self, positions, slice(self.lengths[0], longest), mask if self.lengths[0] else None, longest)
        positions_BS = torch.tensor(self.lengths, device=device)[:, None] + steps
        return CacheView(self, positions_BS.t(), None, causal_mask(positions_BS, longest), longest)


def causal_mask(positions_BS: torch.Tensor, length: int) -> torch.Tensor:
    """Return a mask [B, 1, S, T], T = length, that is True where a query attends to a key."""
    keys = torch.arange(length, device=positions_BS.device)
    return (keys <= positions_BS[..., None])[:, None]


@dataclass
class CacheView:
    """The positions of one forward pass in the cache. It is built once for each pass and shared by all layers."""

    cache: KVCache
    positions: torch.Tensor
    """[S] if all rows have the same length, else [S, B]."""
    place: slice | None
    """The positions of the new keys if all rows have the same length, else None."""
    mask: torch.Tensor | None
    """[1 or B, 1, S, T]; None for a plain causal mask (an empty cache) and for no mask (one new token)."""
    length: int
    alibi: dict[tuple[float, ...], torch.Tensor] = field(default_factory=dict)

    def alibi_bias(self, slopes: tuple[float, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return ALiBi's biases with the causal mask, [1 or B, N, S, T]; computed once for all layers with these slopes."""
        if slopes not in self.alibi:
            self.alibi[slopes] = compute_bias(slopes, self.positions_BS, self.length, dtype)
        return self.alibi[slopes]

    @property
    def positions_BS(self) -> torch.Tensor:
        """Positions of the new tokens, [B, S]; [1, S] if all rows have the same length."""
        return self.positions[None] if self.positions.dim() == 1 else self.positions.t()

    @property
    def is_causal(self) -> bool:
        """True for several tokens and an empty cache, where the mask is the plain causal one."""
        return self.mask is None and self.positions.shape[0] > 1

    def append(self, layer_index: int, keys_BNSD: torch.Tensor, values_BNSD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new keys and values; return all that are stored, [B, N, T, D] each."""
        layer = self.cache.layers[layer_index]
        if self.place is not None:
            layer.keys_BNTD[:, :, self.place] = keys_BNSD
            layer.values_BNTD[:, :, self.place] = values_BNSD
        else:
            rows = torch.arange(keys_BNSD.shape[0], device=keys_BNSD.device)[:, None]
            positions_BS = self.positions.t()
            layer.keys_BNTD[rows, :, positions_BS] = keys_BNSD.transpose(1, 2)
            layer.values_BNTD[rows, :, positions_BS] = values_BNSD.transpose(1, 2)
        return layer.keys_BNTD[:, :, : self.length], layer.values_BNTD[:, :, : self.length]
