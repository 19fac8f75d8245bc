"""MinHash signatures. The fraction of equal values in two signatures estimates the Jaccard similarity of the texts.

    signature = Signatures(permutations=128, shingle_words=5)
    signature("text")                             # [P] uint16; None for a text of fewer than five words

A shingle is a fixed number of consecutive words (runs of \\w) joined by spaces. The Jaccard similarity of two texts is the fraction
of their distinct shingles that both contain. Each value of a signature has its own hash function (a permutation of the hashes). The
value is 16 bits of the smallest hash of the shingles.

The hash of a shingle is a polynomial of its bytes modulo 2**64. Prefix sums of the polynomial are computed once for the text; then
one subtraction gives the hash of each shingle. Integer arithmetic and a fixed seed make hashes equal on every machine.

Legend: T bytes of a text's words, S shingles, P permutations.
"""

import numpy as np

from neox_code.corpus.duplicates.lexing import SPACE, normalize_words

BASE = 6364136223846793005
MIXER = 0xD6E8FEB86659FD93
SEED = 20221121
SHINGLES_AT_ONCE = 512
"""Number of shingles hashed at once, chosen so that their hashes for all permutations fit into the cache of a core."""


class Signatures:
    def __init__(self, permutations: int, shingle_words: int):
        self.shingle_words = shingle_words
        bits = np.random.PCG64(SEED)  # raw numbers never change; those of a Generator may change with numpy's version
        self._number_of_byte = bits.random_raw(256)
        self._factors_P1 = bits.random_raw(permutations).astype(np.uint32)[:, None] | np.uint32(1)
        self._offsets_P1 = bits.random_raw(permutations).astype(np.uint32)[:, None]
        self._hashes_PS = np.empty((permutations, SHINGLES_AT_ONCE), np.uint32)
        self._powers, self._inverses = compute_powers(BASE, 0), compute_powers(BASE, 0)

    def __call__(self, text: str) -> np.ndarray | None:
        hashes_S = self.hash_shingles(text)
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

    def hash_shingles(self, text: str) -> np.ndarray:
        """Return the hashes of all shingles in the order of the text, [S] uint32. A repeated shingle is hashed each time."""
        words_T = np.frombuffer(normalize_words(text).strip(), np.uint8)
        spaces = np.flatnonzero(words_T == SPACE)
        num_shingles = len(spaces) + 2 - self.shingle_words if len(words_T) else 0
        if num_shingles < 1:
            return np.empty(0, np.uint32)
        first_S = np.concatenate([[0], spaces + 1])[:num_shingles]
        last_S = np.append(spaces, len(words_T))[self.shingle_words - 1 :]
        if len(words_T) > len(self._powers):
            self._powers, self._inverses = (
                compute_powers(BASE, 2 * len(words_T)),
                compute_powers(pow(BASE, -1, 2**64), 2 * len(words_T)),
            )
        sums = np.zeros(len(words_T) + 1, np.uint64)
        np.cumsum(self._number_of_byte[words_T] * self._powers[: len(words_T)], out=sums[1:])
        hashes_S = (sums[last_S] - sums[first_S]) * self._inverses[first_S]
        hashes_S = (hashes_S ^ (hashes_S >> np.uint64(32))) * np.uint64(MIXER)
        return (hashes_S >> np.uint64(32)).astype(np.uint32)


def compute_powers(base: int, count: int) -> np.ndarray:
    """Return `base` to the powers 0, 1, ..., count - 1 modulo 2**64, shape (count,), uint64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)
