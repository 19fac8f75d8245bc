"""Chosen by chance, and the same every time: rows in the order of a hash of their number.

chosen = LeastHashes(3)
for first_row, groups in tables:
    chosen.add(groups, row_hashes(first_row, len(groups)), lambda index: groups[index])
chosen.of("Python")
"""

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def row_hashes(first_row: int, num_rows: int, seed: int = 0) -> Hashes:
    """A number for each row that depends on nothing but its place and the seed: splitmix64.

    >>> bool(row_hashes(3, 2)[0] == row_hashes(0, 4)[3]), len(np.unique(row_hashes(0, 10_000)))
    (True, 10000)
    """
    with np.errstate(over="ignore"):
        state = np.arange(first_row + 1, first_row + num_rows + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state += np.uint64(seed % 2**64) * np.uint64(0xD1342543DE82EF95)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class LeastHashes:
    """For each group the rows with the least hashes, until together they weigh `enough`."""

    def __init__(self, enough: int):
        self._enough = enough
        self._heaps: dict[str, list[tuple[int, int, Any]]] = {}
        """Of (negative hash, weight, row): the largest hash first."""
        self._weights: dict[str, int] = {}

    def add(
        self, groups: NDArray[np.object_], hashes: Hashes, row: Callable[[int], Any], weights: NDArray[np.int64] | None = None
    ) -> None:
        """`groups`: of every row, None for those that are not wanted; `row` makes what is kept of one."""
        weights = np.ones(len(groups), np.int64) if weights is None else weights
        wanted = np.flatnonzero(groups != None)  # noqa: E711 - elementwise
        names, codes = np.unique(groups[wanted].astype(str), return_inverse=True)
        for code, name in enumerate(names.tolist()):
            rows = wanted[codes == code]
            rows = rows[hashes[rows] < self._limit(name)]
            for index in rows[np.argsort(hashes[rows])].tolist():
                if not self._take(name, int(hashes[index]), int(weights[index]), partial(row, index)):
                    break

    def _limit(self, name: str) -> int:
        """No hash of a row that is still wanted is above it."""
        is_full = self._weights.get(name, 0) >= self._enough
        return -self._heaps[name][0][0] if is_full else 2**64 - 1

    def _take(self, name: str, number: int, weight: int, row: Callable[[], Any]) -> bool:
        if number >= self._limit(name):
            return False
        heap = self._heaps.setdefault(name, [])
        heapq.heappush(heap, (-number, weight, row()))
        self._weights[name] = self._weights.get(name, 0) + weight
        while self._weights[name] - heap[0][1] >= self._enough:
            self._weights[name] -= heapq.heappop(heap)[1]
        return True

    def of(self, name: str) -> list[Any]:
        """In the order of their hashes."""
        return [row for *_, row in sorted(self._heaps.get(name, ()), key=lambda entry: -entry[0])]

    def groups(self) -> list[str]:
        return sorted(self._heaps)
