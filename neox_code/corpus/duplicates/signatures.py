"""MinHash signatures of texts: two of them agree in about as many of their places as their texts have shingles in common.

    signature = Signatures(places=128, shingle_words=5)
    signature("text")                             # [P] uint16; None for a text of fewer than five words

A shingle is so many consecutive words (runs of \\w) with a space between them. The Jaccard similarity of two texts is the part of
all their different shingles that both have. A place of a signature is the least of the shingles' hashes in an order of its own,
of which 16 bits are kept.

A shingle's hash is a polynomial of its bytes modulo 2**64: prefix sums over the text give the hash of every shingle by a
subtraction. All is integer arithmetic from a fixed seed, and so the same on every machine.

Legend: T bytes of a text's words, S shingles, P places.
"""

import numpy as np

from neox_code.corpus.duplicates.words import SPACE, words_key

BASE = 6364136223846793005
MIXER = 0xD6E8FEB86659FD93
SEED = 20221121
SHINGLES_AT_ONCE = 512
"""So that their hashes in all orders stay in a core's cache."""


class Signatures:
    def __init__(self, places: int, shingle_words: int):
        self.shingle_words = shingle_words
        bits = np.random.PCG64(SEED)  # its raw numbers never change; those of a Generator may, with numpy
        self._number_of_byte = bits.random_raw(256)
        self._factors_P1 = bits.random_raw(places).astype(np.uint32)[:, None] | np.uint32(1)
        self._offsets_P1 = bits.random_raw(places).astype(np.uint32)[:, None]
        self._hashes_PS = np.empty((places, SHINGLES_AT_ONCE), np.uint32)
        self._powers, self._inverses = powers(BASE, 0), powers(BASE, 0)

    def __call__(self, text: str) -> np.ndarray | None:
        hashes_S = self.shingle_hashes(text)
        if not len(hashes_S):
            return None
        least_P = np.full(len(self._factors_P1), 2**32 - 1, np.uint32)
        for start in range(0, len(hashes_S), SHINGLES_AT_ONCE):
            some_S = hashes_S[start : start + SHINGLES_AT_ONCE]
            ordered_PS = self._hashes_PS[:, : len(some_S)]
            np.multiply(self._factors_P1, some_S, out=ordered_PS)
            np.add(ordered_PS, self._offsets_P1, out=ordered_PS)
            np.minimum(least_P, ordered_PS.min(axis=1), out=least_P)
        return least_P.astype(np.uint16)

    def shingle_hashes(self, text: str) -> np.ndarray:
        """[S] uint32, in the order of the text; a shingle that comes twice is there twice."""
        words_T = np.frombuffer(words_key(text).strip(), np.uint8)
        spaces = np.flatnonzero(words_T == SPACE)
        num_shingles = len(spaces) + 2 - self.shingle_words if len(words_T) else 0
        if num_shingles < 1:
            return np.empty(0, np.uint32)
        first_S = np.concatenate([[0], spaces + 1])[:num_shingles]
        last_S = np.append(spaces, len(words_T))[self.shingle_words - 1 :]
        if len(words_T) > len(self._powers):
            self._powers, self._inverses = powers(BASE, 2 * len(words_T)), powers(pow(BASE, -1, 2**64), 2 * len(words_T))
        sums = np.zeros(len(words_T) + 1, np.uint64)
        np.cumsum(self._number_of_byte[words_T] * self._powers[: len(words_T)], out=sums[1:])
        hashes_S = (sums[last_S] - sums[first_S]) * self._inverses[first_S]
        hashes_S = (hashes_S ^ (hashes_S >> np.uint64(32))) * np.uint64(MIXER)
        return (hashes_S >> np.uint64(32)).astype(np.uint32)


def powers(base: int, count: int) -> np.ndarray:
    """`base` to the powers 0, 1, ... modulo 2**64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)
