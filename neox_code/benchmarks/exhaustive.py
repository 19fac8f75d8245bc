"""All pairs of texts that are alike, by comparing every text with every other.

    pairs = find_similar_pairs(texts, threshold=0.7, shingle_words=5)       # (i, j) with i < j
    recall(pairs, roots)                                             # the part of them that one cluster holds

Shingles are so many consecutive words (runs of \\w); an inverted index counts what each text has in common with all others.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import xxhash

WORD = re.compile(r"\w+")


def shingles(text: str, words: int) -> set[bytes]:
    """
    >>> sorted(shingles("a = b(c)", 2))
    [b'a b', b'b c']
    """
    found = WORD.findall(text)
    return {" ".join(found[start : start + words]).encode() for start in range(len(found) - words + 1)}


def find_similar_pairs(texts: Sequence[str], threshold: float, shingle_words: int) -> list[tuple[int, int]]:
    """Pairs whose Jaccard similarity is the threshold or more, the lesser number first."""
    hashed = [np.array([xxhash.xxh3_64_intdigest(one) for one in shingles(text, shingle_words)], np.uint64) for text in texts]
    sizes = np.array([len(hashes) for hashes in hashed])
    _, number_of = np.unique(np.concatenate(hashed), return_inverse=True)
    order = np.argsort(number_of, kind="stable")
    holders = np.repeat(np.arange(len(texts)), sizes)[order]
    begins = np.concatenate([[0], np.cumsum(np.bincount(number_of))])
    ends = np.cumsum(sizes)
    return [
        (other, text)
        for text, shingle_numbers in enumerate(np.split(number_of, ends[:-1]))
        for other in alike_before(text, shingle_numbers, holders, begins, sizes, threshold)
    ]


def alike_before(
    text: int, shingle_numbers: np.ndarray, holders: np.ndarray, begins: np.ndarray, sizes: np.ndarray, threshold: float
) -> Iterator[int]:
    """The texts of lesser numbers that are like this one."""
    lists = [holders[begins[number] : begins[number + 1]] for number in shingle_numbers]
    if not lists:
        return
    common = np.bincount(np.concatenate(lists), minlength=len(sizes))[:text]
    yield from np.flatnonzero(common >= threshold * (sizes[:text] + sizes[text] - common)).tolist()


def recall(pairs: Sequence[tuple[int, int]], roots: Sequence[int]) -> float:
    """
    >>> recall([(0, 1), (0, 2)], roots=[0, 0, 2])
    0.5
    """
    return sum(roots[one] == roots[other] for one, other in pairs) / len(pairs) if pairs else 1.0
