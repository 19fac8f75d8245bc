"""Random numbers by their places: a number depends on a key, a row and a column, and not on the numbers that were drawn before.

    key = make_key(seed, layer_index)                              # a 64-bit integer
    bits = draw_bits(keys_B, rows_R, columns)                      # 32 random bits for each key, row and column
    keep = draw_mask(keys_B, rows_R, columns, 0.1)                 # False with probability 0.1

Ranks that hold different parts of a tensor therefore draw the parts of the same numbers, on any device. The generator is SplitMix64
(Steele, Lea and Flood 2014), whose n-th number is a mix of key + n * GOLDEN. Each 64-bit number gives two columns their 32 bits.
"""

import math

import numpy as np
import torch

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIXERS = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)), (31, 1))
"""Shift and factor of each step of SplitMix64's mix. As in all sums and products here, overflow keeps the low 64 bits."""

ROW_STRIDE = 1 << 24
"""Distance of the counters of two rows; the number of columns is at most twice as large."""


def make_key(*numbers: int) -> int:
    """Return a key, a signed 64-bit integer, from numbers that are not negative."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64).astype(np.int64)[0])


def mix(values: torch.Tensor) -> torch.Tensor:
    """Return SplitMix64's mix of each int64."""
    for shift, factor in MIXERS:
        values = values ^ ((values >> shift) & ((1 << (64 - shift)) - 1))  # the shift of a signed number repeats its sign
        values = values * factor if factor != 1 else values
    return values


def derive_keys(keys: torch.Tensor, numbers: int | torch.Tensor) -> torch.Tensor:
    """Return a new key for each key, by numbers that are not negative: other numbers give independent keys."""
    offsets = (numbers + 1) * GOLDEN
    return mix(keys + (offsets if isinstance(offsets, torch.Tensor) else (offsets + (1 << 63)) % (1 << 64) - (1 << 63)))


def draw_bits(keys_B: torch.Tensor, rows_R: torch.Tensor, columns: range) -> torch.Tensor:
    """Return 32 random bits of each key, row and column: int32 [B, R, columns]. Keys and rows are int64."""
    pairs = torch.arange(columns.start // 2, (columns.stop + 1) // 2, device=rows_R.device)
    counters_RP = rows_R[:, None] * ROW_STRIDE + pairs
    bits = mix(keys_B[:, None, None] + counters_RP * GOLDEN).view(torch.int32)
    return bits[..., columns.start % 2 :][..., : len(columns)]


def draw_mask(keys_B: torch.Tensor, rows_R: torch.Tensor, columns: range, share: float) -> torch.Tensor:
    """Return a mask, bool [B, R, columns], in which each value is False with probability `share`."""
    return draw_bits(keys_B, rows_R, columns) >= round(share * (1 << 32)) - (1 << 31)


def to_uniform(bits: torch.Tensor) -> torch.Tensor:
    """Return numbers between 0 and 1, without the ends, from the high 24 of 32 random bits."""
    return ((bits >> 8) & 0xFFFFFF).float().add_(0.5).mul_(2.0**-24)


def to_normal(bits: torch.Tensor) -> torch.Tensor:
    """Return normally distributed numbers from 32 random bits each, by Box and Muller's method; the last dimension is even."""
    first, second = to_uniform(bits).unflatten(-1, (-1, 2)).unbind(-1)
    radius, angle = (-2 * first.log()).sqrt(), second * (2 * math.pi)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(-2)
