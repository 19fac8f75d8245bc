"""Exact duplicates: files with the same bytes, or with the same text as it is kept.

    rule = ExactDuplicates()                                   # bytes: half of their SHA-256; of="text": xxh3-128 of the text
    with rule.groups(folder) as groups:                        # folder: where keys wait, 32 bytes a file
        groups.add(keys, projects, rows)
        for dropped, survivors in groups.duplicates():
            ...

Keys have 16 bytes: that any two of 100 million different files share one has odds of 1 in 7 * 10^22, of ten billion 1 in 7 * 10^18.
With SHA-256, whose 32 bytes the manifest has of every file, none can be made to share one either; xxh3 is no such promise.

Keys go to 256 buckets by their first byte; each of these is sorted by itself. So memory is that of a million keys while they come,
then of one 256th of all (100 million files: 0.4 million keys).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from neox_code.corpus.duplicates.buckets import Buckets

BUCKETS = 256
KEY_BYTES = 16
RECORD = np.dtype([("key", f"V{KEY_BYTES}"), ("project", np.int64), ("row", np.int64)])

_last_digest: tuple[bytes, bytes] = (b"", hashlib.sha256().digest())


def content_digest(content: bytes) -> bytes:
    """SHA-256, which is not computed again for the content that was asked about last."""
    global _last_digest
    if content is not _last_digest[0]:
        _last_digest = (content, hashlib.sha256(content).digest())
    return _last_digest[1]


@dataclass(frozen=True)
class ExactDuplicates:
    of: Literal["bytes", "text"] = "bytes"
    """The bytes of a file as found, as PolyCoder compares them, or its text as kept: decoded, and edited where the recipe edits."""
    name = "exact duplicate"
    key_bytes = KEY_BYTES

    def key(self, content: bytes, text: str) -> bytes | None:
        if self.of == "bytes":
            return content_digest(content)[:KEY_BYTES]
        return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))

    @contextmanager
    def groups(self, folder: Path) -> Iterator["KeyGroups"]:
        with KeyGroups(folder) as groups:
            yield groups


class KeyGroups:
    """Files grouped by equal keys of 16 bytes."""

    def __init__(self, folder: Path):
        self._buckets = Buckets(folder, RECORD, BUCKETS)

    def __enter__(self) -> "KeyGroups":
        return self

    def __exit__(self, *exception: object) -> None:
        self._buckets.remove()

    def add(self, keys: np.ndarray, projects: np.ndarray, rows: np.ndarray) -> None:
        records = np.empty(len(keys), RECORD)
        records["key"], records["project"], records["row"] = keys, projects, rows
        self._buckets.add(records, np.ascontiguousarray(keys).view(np.uint8).reshape(-1, KEY_BYTES)[:, 0])

    def duplicates(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for bucket in range(BUCKETS):
            dropped, survivors = duplicates_among(self._buckets.read(bucket))
            if len(dropped):
                yield dropped, survivors


def duplicates_among(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows that are duplicates, the row that survives for each) of records that hold all of every group."""
    records = records[in_larger_runs(words_of(records)[0])]
    first, second = words_of(records)
    order = np.lexsort((records["row"], records["project"], second, first))
    first, second, rows = first[order], second[order], records["row"][order]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    survivor_of = rows[is_first][np.cumsum(is_first) - 1]
    return rows[~is_first], survivor_of[~is_first]


def words_of(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of each key, as numbers."""
    halves = np.ascontiguousarray(records["key"]).view(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def in_larger_runs(values: np.ndarray) -> np.ndarray:
    """Indices of the values that occur more than once."""
    order = np.argsort(values)
    same = values[order][1:] == values[order][:-1]
    repeated = np.zeros(len(values), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    return order[repeated]
