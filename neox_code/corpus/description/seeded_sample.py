"""A pseudorandom sample of rows, equal in every run: each row number is hashed with a seed, and the smallest hashes are taken.

sample = SeededSample(3)
for first_row, groups in tables:
    sample.add(groups, hash_rows(first_row, len(groups)), lambda index: groups[index])
sample.get_rows("Python")
"""

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def hash_rows(first_row: int, num_rows: int, seed: int = 0) -> Hashes:
    """Return splitmix64 hashes, uint64 of shape (num_rows,), that depend only on the rows' numbers and the seed.

    >>> bool(hash_rows(3, 2)[0] == hash_rows(0, 4)[3]), len(np.unique(hash_rows(0, 10_000)))
    (True, 10000)
    """
    with np.errstate(over="ignore"):
        state = np.arange(first_row + 1, first_row + num_rows + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state += np.uint64(seed % 2**64) * np.uint64(0xD1342543DE82EF95)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class SeededSample:
    """A sample of each group of rows: the rows with the smallest hashes, as many as are needed for a total weight of `enough`."""

    def __init__(self, enough: int):
        self._enough = enough
        self._heaps: dict[str, list[tuple[int, int, Any]]] = {}
        """Group -> heap of (negative hash, weight, row), the largest hash first."""
        self._weights: dict[str, int] = {}

    def add(
        self, groups: NDArray[np.object_], hashes: Hashes, make_row: Callable[[int], Any], weights: NDArray[np.int64] | None = None
    ) -> None:
        """Add rows, each with a group (None: not sampled), a hash and a weight. `make_row(index)` returns the value to store."""
        weights = np.ones(len(groups), np.int64) if weights is None else weights
        wanted = np.flatnonzero(groups != None)  # noqa: E711 - elementwise
        names, codes = np.unique(groups[wanted].astype(str), return_inverse=True)
        for code, name in enumerate(names.tolist()):
            rows = wanted[codes == code]
            rows = rows[hashes[rows] < self._limit(name)]
            for index in rows[np.argsort(hashes[rows])].tolist():
                if not self._insert(name, int(hashes[index]), int(weights[index]), partial(make_row, index)):
                    break

    def _limit(self, name: str) -> int:
        """Return the largest hash that can still enter the group's sample."""
        is_full = self._weights.get(name, 0) >= self._enough
        return -self._heaps[name][0][0] if is_full else 2**64 - 1

    def _insert(self, name: str, number: int, weight: int, make_row: Callable[[], Any]) -> bool:
        if number >= self._limit(name):
            return False
        heap = self._heaps.setdefault(name, [])
        heapq.heappush(heap, (-number, weight, make_row()))
        self._weights[name] = self._weights.get(name, 0) + weight
        while self._weights[name] - heap[0][1] >= self._enough:
            self._weights[name] -= heapq.heappop(heap)[1]
        return True

    def get_rows(self, name: str) -> list[Any]:
        """Return the sampled rows of a group in the order of their hashes."""
        return [row for *_, row in sorted(self._heaps.get(name, ()), key=lambda entry: -entry[0])]

    def groups(self) -> list[str]:
        return sorted(self._heaps)
