"""Seeds: hashes of selected substrings. An index of seeds finds the texts that have a passage in common with another text.

    hashes_N, offsets_N = select_seeds(document.text.encode())          # what an index holds: about one in 21 positions
    hashes_N = hash_substrings(b"def area(width, height): return")      # what is looked up: all positions

Selection is by winnowing (Schleimer, Wilkerson, Aiken 2003): of any WINDOW consecutive substrings of SEED_BYTES bytes, the one with
the smallest hash is selected. So every passage of at least GUARANTEED_BYTES has a selected seed in any text.
"""

import numpy as np
from numpy.typing import NDArray

SEED_BYTES = 24
WINDOW = 41
GUARANTEED_BYTES = SEED_BYTES + WINDOW - 1
"""Every common passage of at least this length (64 bytes) is found."""

FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
"""Odd 64-bit multipliers of the hash, one for each of the three 8-byte words of a substring."""

POSITION_BITS = np.uint64(63)
"""The low 6 bits of a hash. They hold the position modulo 64 while the smallest hash of each window is searched."""


def hash_substrings(text: bytes) -> NDArray[np.uint64]:
    """Return the hash of SEED_BYTES bytes from each offset on: uint64 [len(text) - SEED_BYTES + 1], the low 6 bits zero."""
    count = len(text) - SEED_BYTES + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    words = np.ndarray(len(text) - 7, "<u8", text, strides=(1,)).astype(np.uint64)
    hashes = np.zeros(count, np.uint64)
    for place, factor in enumerate(FACTORS):
        hashes ^= words[8 * place : 8 * place + count]
        hashes *= np.uint64(factor)
        hashes ^= hashes >> np.uint64(29)
    return hashes & ~POSITION_BITS


def select_seeds(text: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Return the hashes and the offsets in bytes of the selected seeds of a text, in the order of the text."""
    hashes = hash_substrings(text)
    if not len(hashes):
        return hashes, np.empty(0, np.uint32)
    smallest = hashes | (np.arange(len(hashes), dtype=np.uint64) & POSITION_BITS)
    width = 1
    while width < min(WINDOW, len(hashes)):  # smallest[i] = the smallest of the `width` hashes from i
        step = min(width, min(WINDOW, len(hashes)) - width)
        smallest = np.minimum(smallest[:-step], smallest[step:])
        width += step
    starts = np.arange(len(smallest), dtype=np.uint64)
    offsets = np.unique(starts + (((smallest & POSITION_BITS) - starts) & POSITION_BITS))
    return hashes[offsets], offsets.astype(np.uint32)
