"""Connected components of numbered items (union-find). Pairs of connected items are added in blocks.

    clusters = Clusters(count=1_000_000)
    clusters.join(first, second)                  # pairs of connected items, shape (pairs,)
    clusters.find_roots(numbers)                       # for each item, the smallest item of its component

Memory: four bytes per item (eight from 2**31 items on). The roots do not depend on the order of the pairs.
"""

import numpy as np


class Clusters:
    def __init__(self, count: int):
        self._parents = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)

    def find_roots(self, numbers: np.ndarray) -> np.ndarray:
        found = self._parents[numbers]
        while not np.array_equal(above := self._parents[found], found):
            self._parents[numbers] = above  # path halving
            found = self._parents[numbers]
        return found

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        while True:
            roots = self.find_roots(np.concatenate([first, second]))
            one, other = roots[: len(first)], roots[len(first) :]
            apart = one != other
            if not apart.any():
                return
            first, second = one[apart], other[apart]
            # if a root gets several parents the smallest wins; the others are joined in the next round
            np.minimum.at(self._parents, np.maximum(first, second), np.minimum(first, second))
