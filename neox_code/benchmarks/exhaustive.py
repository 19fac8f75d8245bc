"""Find all pairs of similar texts by comparing every text with every other text.

    pairs = find_similar_pairs(texts, threshold=0.7, shingle_words=5)       # (i, j) with i < j
    compute_recall(pairs, roots)                                             # the share of pairs whose texts are in one cluster

A shingle is a sequence of `shingle_words` words (runs of \\w). An inverted index counts the shingles that two texts share.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import xxhash

WORD = re.compile(r"\w+")


def make_shingles(text: str, words: int) -> set[bytes]:
    """
    >>> sorted(make_shingles("a = b(c)", 2))
    [b'a b', b'b c']
    """
    found = WORD.findall(text)
    return {" ".join(found[start : start + words]).encode() for start in range(len(found) - words + 1)}


def find_similar_pairs(texts: Sequence[str], threshold: float, shingle_words: int) -> list[tuple[int, int]]:
    """Return the pairs whose Jaccard similarity is at least the threshold, the lesser number first."""
    hashed = [np.array([xxhash.xxh3_64_intdigest(one) for one in make_shingles(text, shingle_words)], np.uint64) for text in texts]
    sizes = np.array([len(hashes) for hashes in hashed])
    _, number_of = np.unique(np.concatenate(hashed), return_inverse=True)
    order = np.argsort(number_of, kind="stable")
    holders = np.repeat(np.arange(len(texts)), sizes)[order]
    begins = np.concatenate([[0], np.cumsum(np.bincount(number_of))])
    ends = np.cumsum(sizes)
    return [
        (other, text)
        for text, shingle_numbers in enumerate(np.split(number_of, ends[:-1]))
        for other in find_similar_before(text, shingle_numbers, holders, begins, sizes, threshold)
    ]


def find_similar_before(
    text: int, shingle_numbers: np.ndarray, holders: np.ndarray, begins: np.ndarray, sizes: np.ndarray, threshold: float
) -> Iterator[int]:
    """Yield the texts with lesser numbers that are similar to this text."""
    lists = [holders[begins[number] : begins[number + 1]] for number in shingle_numbers]
    if not lists:
        return
    common = np.bincount(np.concatenate(lists), minlength=len(sizes))[:text]
    yield from np.flatnonzero(common >= threshold * (sizes[:text] + sizes[text] - common)).tolist()


def compute_recall(pairs: Sequence[tuple[int, int]], roots: Sequence[int]) -> float:
    """Return the share of the pairs whose two texts are in one cluster: `roots` has the same value for both. Return 1 if there are
    no pairs.

    >>> compute_recall([(0, 1), (0, 2)], roots=[0, 0, 2])
    0.5
    """
    return sum(roots[one] == roots[other] for one, other in pairs) / len(pairs) if pairs else 1.0
