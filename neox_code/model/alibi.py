"""Attention with linear biases (Press et al. 2022): a score falls with the distance of its key, at a slope of each head's own.

    score = q k / sqrt(D) + slope * (position of k - position of q)

    head_slopes(8)                      # (1/2, 1/4, ..., 1/256): one a head, of all tensor ranks

With `apply_query_key_layer_scaling` GPT-NeoX adds the bias to scores that are divided by the layer's index, and multiplies the sum
by it: the slopes grow with the layers.

Shape letters: B batch, N heads of this tensor rank, S queries, T keys.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

from neox_code.config.model import ModelConfig


def head_slopes(num_heads: int) -> tuple[float, ...]:
    """A geometric series; where the heads are no power of 2, every second slope of twice as many heads fills up.

    >>> head_slopes(4), head_slopes(3)
    ((0.25, 0.0625, 0.015625, 0.00390625), (0.0625, 0.00390625, 0.25))
    """
    power = 2 ** int(math.log2(num_heads))
    series = tuple(2 ** (-8 * head / power) for head in range(1, power + 1))
    return series if power == num_heads else series + head_slopes(2 * power)[: 2 * (num_heads - power) : 2]


def layer_slopes(model: ModelConfig, layer_index: int) -> tuple[float, ...]:
    """The slopes in a layer: index 0 is the first one's, whose scores are never scaled."""
    kinds = model.attention_config or ("global",)
    is_scaled = model.apply_query_key_layer_scaling and kinds[layer_index % len(kinds)] == "global"
    factor = max(1, layer_index) if is_scaled else 1
    return tuple(factor * slope for slope in head_slopes(model.num_attention_heads))


def bias_at(slopes: Sequence[float], positions_BS: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the scores of queries at these positions and keys 0 to length - 1; -inf ahead of a query: [B, N, S, T]."""
    distance = torch.arange(length, device=positions_BS.device) - positions_BS[:, None, :, None]
    bias = torch.tensor(slopes, device=positions_BS.device)[:, None, None] * distance
    return bias.masked_fill(distance > 0, -torch.inf).to(dtype)


@lru_cache(maxsize=1)
def causal_bias(slopes: tuple[float, ...], length: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The same for whole sequences: [1, N, S, S]. One tensor for all layers of these slopes, kept for the backward pass."""
    with torch.inference_mode(False):
        return bias_at(slopes, torch.arange(length, device=device)[None], length, dtype)
