"""Attention with linear biases (Press et al. 2022): a score decreases with the distance of its key. Each head has its own slope.

    score = q k / sqrt(D) + slope * (position of k - position of q)

    compute_head_slopes(8)                      # (1/2, 1/4, ..., 1/256): one for each head, over all tensor ranks

With `apply_query_key_layer_scaling` GPT-NeoX divides the scores by the layer's index, adds the bias and multiplies the sum by the
index. This is the same as multiplying the layer's slopes by its index.

Shape letters: B batch, N heads of this tensor rank, S queries, T keys.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

from neox_code.config.model import ModelConfig


def compute_head_slopes(num_heads: int) -> tuple[float, ...]:
    """Return a geometric series of slopes.

    If the number of heads is not a power of 2, the series is for the next lower power of 2. The remaining heads have every second
    slope of the series that is twice as long.

    >>> compute_head_slopes(4), compute_head_slopes(3)
    ((0.25, 0.0625, 0.015625, 0.00390625), (0.0625, 0.00390625, 0.25))
    """
    power = 2 ** int(math.log2(num_heads))
    series = tuple(2 ** (-8 * head / power) for head in range(1, power + 1))
    return series if power == num_heads else series + compute_head_slopes(2 * power)[: 2 * (num_heads - power) : 2]


def compute_layer_slopes(model: ModelConfig, layer_index: int) -> tuple[float, ...]:
    """Return the slopes of a layer. The scores of the first layer (index 0) are never scaled."""
    kinds = model.attention_config or ("global",)
    is_scaled = model.apply_query_key_layer_scaling and kinds[layer_index % len(kinds)] == "global"
    factor = max(1, layer_index) if is_scaled else 1
    return tuple(factor * slope for slope in compute_head_slopes(model.num_attention_heads))


def compute_bias(slopes: Sequence[float], positions_BS: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the bias of the scores [B, N, S, T] between queries at `positions_BS` and keys 0 to length - 1.

    It is -inf for the keys after a query.
    """
    distance = torch.arange(length, device=positions_BS.device) - positions_BS[:, None, :, None]
    bias = torch.tensor(slopes, device=positions_BS.device)[:, None, None] * distance
    return bias.masked_fill(distance > 0, -torch.inf).to(dtype)


def compute_causal_bias(slopes: tuple[float, ...], length: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return the bias of whole sequences, [1, N, S, S]. Layers with the same slopes share one tensor, except in compiled blocks."""
    if torch.compiler.is_compiling():
        return compute_bias(slopes, torch.arange(length, device=device)[None], length, dtype)
    return compute_shared_bias(slopes, length, device, dtype)


@lru_cache(maxsize=1)
def compute_shared_bias(slopes: tuple[float, ...], length: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    with torch.inference_mode(False):
        return compute_bias(slopes, torch.arange(length, device=device)[None], length, dtype)
