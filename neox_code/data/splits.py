"""Shares of one token file for training, validation and test."""

from collections.abc import Sequence


def split_string(shares: Sequence[float]) -> str:
    """The shares as megatron-core reads them; they need not sum to anything.

    >>> split_string((98.9, 0.1, 1.0))
    '98.9,0.1,1.0'
    >>> split_string((1,))
    '1,0,0'
    """
    padded = [*shares, 0, 0, 0][:3]
    return ",".join(str(share) for share in padded)
