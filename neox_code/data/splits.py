"""Shares of one token file for training, validation and test."""

from collections.abc import Sequence


def format_split(shares: Sequence[float]) -> str:
    """Return the shares in megatron-core's format; they need not sum to 1 or 100.

    >>> format_split((98.9, 0.1, 1.0))
    '98.9,0.1,1.0'
    >>> format_split((1,))
    '1,0,0'
    """
    padded = [*shares, 0, 0, 0][:3]
    return ",".join(str(share) for share in padded)
