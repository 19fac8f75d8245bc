"""Histograms of file sizes with 32 bins for each power of two. Memory does not depend on the number of files.

sizes = Sizes()
sizes.add(("Python", "kept"), np.array([120, 4_000, 65_536]))
sizes.count_size_ranges([("Python", "kept")])[7]               # 1: files of 64 to 127 bytes
sizes.quantile([("Python", "kept")], 0.5)            # 4,032: within 2% of the exact value
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

BINS_PER_OCTAVE = 32
OCTAVES = 64

Group = tuple[str | None, str]
"""Language and outcome of the files in one histogram."""


class Sizes:
    """Histograms of file sizes in bytes, one for each group."""

    def __init__(self) -> None:
        self._bins: dict[Group, NDArray[np.int64]] = defaultdict(lambda: np.zeros(OCTAVES * BINS_PER_OCTAVE, np.int64))
        self._largest: dict[Group, int] = {}

    def add(self, group: Group, sizes: NDArray[np.int64]) -> None:
        """Add file sizes in bytes, int64 of shape (files,), to a group."""
        if len(sizes):
            mantissa, exponent = np.frexp(sizes.astype(np.float64))
            parts = ((mantissa - 0.5) * (2 * BINS_PER_OCTAVE)).clip(0).astype(np.int64)
            self._bins[group] += np.bincount(exponent * BINS_PER_OCTAVE + parts, minlength=OCTAVES * BINS_PER_OCTAVE)
            self._largest[group] = max(self._largest.get(group, 0), int(sizes.max()))

    def groups(self) -> list[Group]:
        return list(self._bins)

    def count_size_ranges(self, groups: Iterable[Group]) -> list[int]:
        """Return the numbers of files of 0 bytes, 1 byte, 2 to 3 bytes, 4 to 7 bytes and so on."""
        return [int(count) for count in self._sum(groups).reshape(OCTAVES, BINS_PER_OCTAVE).sum(axis=1)]

    def quantile(self, groups: Iterable[Group], share: float) -> float:
        """Return the size in bytes such that this share of the files is not larger."""
        counts = self._sum(groups).cumsum()
        place = int(np.searchsorted(counts, max(share * counts[-1], 1)))
        octave, part = divmod(place, BINS_PER_OCTAVE)
        if octave == 0:
            return 0.0
        low = 2.0 ** (octave - 1)
        least, next_least = low + low / BINS_PER_OCTAVE * part, low + low / BINS_PER_OCTAVE * (part + 1)
        return least if next_least - least <= 1 else (least + next_least) / 2

    def largest(self, groups: Iterable[Group]) -> int:
        return max((self._largest.get(group, 0) for group in groups), default=0)

    def _sum(self, groups: Iterable[Group]) -> NDArray[np.int64]:
        return np.sum(
            [self._bins[group] for group in groups if group in self._bins] or [np.zeros(OCTAVES * BINS_PER_OCTAVE, np.int64)],
            axis=0,
        )
