"""Exact duplicates: files with the same bytes, or with the same text after decoding and edits.

    rule = ExactDuplicates()                                   # bytes: half of their SHA-256; of="text": xxh3-128 of the text
    with rule.groups(folder) as groups:                        # folder for temporary files, 32 bytes per file
        groups.add(keys, projects, rows)
        for dropped, survivors in groups.duplicates():
            ...

Keys have 16 bytes. The probability that any two of 100 million different files have equal keys is 1 in 7 * 10^22 (of ten billion
files: 1 in 7 * 10^18). Nobody can construct two files with equal SHA-256 keys; xxh3 does not guarantee this.

Keys are divided into 256 buckets by their first byte, and each bucket is sorted separately. While keys are added, memory holds up
to one million keys; later it holds one bucket (0.4 million keys for 100 million files).
"""

import hashlib
from collections.abc import Iterator
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


def compute_content_digest(content: bytes) -> bytes:
    """Return the SHA-256; the result for the most recent content is cached."""
    global _last_digest
    if content is not _last_digest[0]:
        _last_digest = (content, hashlib.sha256(content).digest())
    return _last_digest[1]


@dataclass(frozen=True)
class ExactDuplicates:
    of: Literal["bytes", "text"] = "bytes"
    """`bytes`: compare the original bytes, as PolyCoder does. `text`: compare the text after decoding and the recipe's edits."""
    name = "exact duplicate"
    key_bytes = KEY_BYTES

    def key(self, content: bytes, text: str) -> bytes | None:
        if self.of == "bytes":
            return compute_content_digest(content)[:KEY_BYTES]
        return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))

    def groups(self, folder: Path) -> "KeyGroups":
        return KeyGroups(folder)


class KeyGroups:
    """Files grouped by their keys of 16 bytes; files with equal keys are duplicates. A context manager."""

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
            dropped, survivors = find_duplicates(self._buckets.read(bucket))
            if len(dropped):
                yield dropped, survivors


def find_duplicates(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows of duplicates, kept row for each), both of shape (duplicates,). `records` must have all files of each key."""
    records = records[find_repeated(split_keys(records)[0])]
    first, second = split_keys(records)
    order = np.lexsort((records["row"], records["project"], second, first))
    first, second, rows = first[order], second[order], records["row"][order]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    survivor_of = rows[is_first][np.cumsum(is_first) - 1]
    return rows[~is_first], survivor_of[~is_first]


def split_keys(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two halves of each key, both uint64 of shape (records,)."""
    halves = np.ascontiguousarray(records["key"]).view(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def find_repeated(values: np.ndarray) -> np.ndarray:
    """Return the indices of the values that occur more than once."""
    order = np.argsort(values)
    same = values[order][1:] == values[order][:-1]
    repeated = np.zeros(len(values), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    return order[repeated]
