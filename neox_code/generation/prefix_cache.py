"""Keys and values of earlier texts, so that only the rest of a prompt with the same beginning is computed.

An editor sends nearly the same prompt at each keystroke. Only the tokens after the common beginning are then computed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from neox_code.model.kv_cache import RowCache


@dataclass
class Entry:
    ids: np.ndarray
    """Tokens of the cache: int64 [T]."""
    cache: RowCache
    adapter: str | None = None
    """The adapter that the keys and values were computed with; None: the model alone."""


class PrefixCache:
    """Keys and values of ended rows, at most `maximum_bytes`; the least recently used are removed first."""

    def __init__(self, maximum_bytes: int):
        self.maximum_bytes = maximum_bytes
        self.entries: list[Entry] = []

    @property
    def num_bytes(self) -> int:
        return sum(entry.cache.num_bytes for entry in self.entries)

    def store(self, ids: Sequence[int], cache: RowCache, adapter: str | None = None) -> None:
        """Store the keys and values of `ids`. Remove entries whose ids are the beginning of `ids`, then the least recently used."""
        new = Entry(np.asarray(ids[: cache.length], np.int64), cache, adapter)
        if not cache.length or cache.num_bytes > self.maximum_bytes:
            return
        self.entries = [
            entry for entry in self.entries if entry.adapter != adapter or count_common_ids(entry.ids, new.ids) < len(entry.ids)
        ]
        self.entries.append(new)
        while self.num_bytes > self.maximum_bytes:
            del self.entries[0]

    def take(
        self, ids: Sequence[int], running: Iterable[tuple[Sequence[int], RowCache]] = (), adapter: str | None = None
    ) -> RowCache | None:
        """Return the keys and values of the longest beginning of `ids` that an entry or a running row has; never of the last id.
        All are of the same adapter.

        If at least half of the entry's tokens are used, the entry is removed and its own keys and values are returned; otherwise
        they are copied. Return None if no entry or row begins with the same token.
        """
        wanted = np.asarray(ids[:-1], np.int64)
        others = [Entry(np.asarray(other[: cache.length], np.int64), cache) for other, cache in running]
        stored = [place for place, entry in enumerate(self.entries) if entry.adapter == adapter]
        candidates = [*(self.entries[place] for place in stored), *others]
        common, best = max(((count_common_ids(entry.ids, wanted), place) for place, entry in enumerate(candidates)), default=(0, 0))
        if not common:
            return None
        if best < len(stored) and 2 * common >= len(candidates[best].ids):
            cache = self.entries.pop(stored[best]).cache
            cache.truncate(common)
            return cache
        return candidates[best].cache.copy(common)


def count_common_ids(first: np.ndarray, second: np.ndarray) -> int:
    """Return the number of equal tokens at the beginning of two texts.

    >>> count_common_ids(np.array([5, 6, 7]), np.array([5, 6, 8, 9]))
    2
    """
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length
