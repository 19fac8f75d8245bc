"""Which of many things belong together, when pairs of them come a block at a time.

    clusters = Clusters(count=1_000_000)
    clusters.join(first, second)                  # arrays of numbers
    clusters.roots(numbers)                       # the least number that each one is connected to

Four bytes in memory for each thing (eight from 2**31 on). The pairs' order makes no difference to the roots.
"""

import numpy as np


class Clusters:
    def __init__(self, count: int):
        self._parents = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)

    def roots(self, numbers: np.ndarray) -> np.ndarray:
        found = self._parents[numbers]
        while not np.array_equal(above := self._parents[found], found):
            self._parents[numbers] = above  # so that a chain through these numbers has half its length
            found = self._parents[numbers]
        return found

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        while True:
            roots = self.roots(np.concatenate([first, second]))
            one, other = roots[: len(first)], roots[len(first) :]
            apart = one != other
            if not apart.any():
                return
            first, second = one[apart], other[apart]
            # of several that a root is to hang from, the least: the others come again
            np.minimum.at(self._parents, np.maximum(first, second), np.minimum(first, second))
