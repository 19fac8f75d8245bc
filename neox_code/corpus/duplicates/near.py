"""Near duplicates: texts that share most of their shingles, by MinHash.

    rule = NearDuplicates(threshold=0.7)
    with rule.groups(folder) as groups:                        # temporary files: 2 * permutations + 16 * bands + 16 bytes per file
        groups.add(keys, projects, rows)
        for dropped, survivors in groups.duplicates():
            ...

The key of a file is the MinHash signature of its text: 128 hash values, of which each band has 5. Two signatures with an equal band
are compared in full; the texts are similar if enough hash values are equal. Similar texts are connected. Connected texts form a
cluster, and the file with the smallest (project, row) of the cluster is kept.

With 25 bands, a pair of similarity 0.7 is compared with probability 0.99, and a pair of similarity 0.8 nearly always. The
similarity is then estimated from 128 hash values; the standard error at 0.7 is 0.04. An exhaustive search (`deepy.py benchmark data
--part near`) found 368 and 130 similar pairs in two samples of 24 MB of Debian's source code. Of these pairs, 99.5% and 96.2% are
in one cluster. With datasketch at the same threshold and permutations, 91.6% and 84.6% are.

Among files with an equal band, the first LEADERS by project and row are compared with all others. Memory holds 5 bytes per file,
and one of the SPLITS parts of a band (100 million files: 0.7 GB in total).
"""

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from neox_code.corpus.duplicates.buckets import Buckets
from neox_code.corpus.duplicates.clusters import Clusters
from neox_code.corpus.duplicates.exact import KeyGroups, find_repeated
from neox_code.corpus.duplicates.signatures import BASE, Signatures, compute_powers
from neox_code.errors import DataError

LEADERS = 64
SPLITS = 64
FILES_AT_ONCE = 2**14
PAIRS_AT_ONCE = 2**13
MEMBER = np.dtype([("project", np.int64), ("row", np.int64)])
BAND = np.dtype([("hash", np.uint64), ("number", np.int64)])

signatures = cache(Signatures)


@dataclass(frozen=True)
class NearDuplicates:
    threshold: float = 0.7
    """Minimum Jaccard similarity of similar texts: the fraction of distinct shingles that both texts contain."""
    permutations: int = 128
    """Number of hash values in a signature. More values give a better estimate and take more time."""
    bands: int = 25
    """Number of bands of a signature. Texts with an equal band are compared. More bands find more pairs and take more time."""
    shingle_words: int = 5
    name = "near duplicate"

    def __post_init__(self) -> None:
        if not (0 < self.threshold <= 1 and 1 <= self.bands <= self.permutations and self.shingle_words >= 1):
            raise DataError(
                f"{self} is invalid: threshold must be above 0 and at most 1, bands between 1 and permutations, and "
                "shingle_words at least 1. Correct the recipe."
            )

    @property
    def key_bytes(self) -> int:
        return 2 * self.permutations

    @property
    def rows_per_band(self) -> int:
        return self.permutations // self.bands

    @property
    def min_equal_hashes(self) -> int:
        """Minimum number of equal hash values in the signatures of similar texts."""
        return math.ceil(round(self.threshold * self.permutations, 6))

    def key(self, content: bytes, text: str) -> bytes | None:
        signature = signatures(self.permutations, self.shingle_words)(text)
        return None if signature is None else signature.tobytes()

    def groups(self, folder: Path) -> "NearGroups":
        return NearGroups(self, folder / "near")


class NearGroups:
    """Files grouped by similar signatures. Legend: N files, B bands, P hash values of a signature."""

    def __init__(self, rule: NearDuplicates, folder: Path):
        self.rule = rule
        self.folder = folder
        self._count = 0
        self._last = (-1, -1)
        self._ascending = True
        self._factors = compute_powers(BASE, rule.rows_per_band + 1)[1:]

    def __enter__(self) -> "NearGroups":
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._bands = Buckets(self.folder / "bands", BAND, self.rule.bands * SPLITS)
        self._signatures = (self.folder / "signatures").open("w+b")
        self._members = (self.folder / "members").open("ab")
        return self

    def __exit__(self, *exception: object) -> None:
        self._signatures.close()
        self._members.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, keys: np.ndarray, projects: np.ndarray, rows: np.ndarray) -> None:
        for start in range(0, len(keys), FILES_AT_ONCE):
            some = slice(start, start + FILES_AT_ONCE)
            self._add(np.ascontiguousarray(keys[some]), projects[some], rows[some])

    def _add(self, keys: np.ndarray, projects: np.ndarray, rows: np.ndarray) -> None:
        members = np.empty(len(keys), MEMBER)
        members["project"], members["row"] = projects, rows
        self._members.write(members.data)
        self._signatures.write(keys.data)
        self._check_order(members)
        bands, rows_per_band = self.rule.bands, self.rule.rows_per_band
        signatures_NP = keys.view(np.uint16).reshape(len(keys), -1)[:, : bands * rows_per_band]
        hashes_NB = (signatures_NP.reshape(-1, bands, rows_per_band) * self._factors).sum(axis=2)
        records = np.empty(hashes_NB.shape, BAND)
        records["hash"] = hashes_NB
        records["number"] = np.arange(self._count, self._count + len(keys))[:, None]
        buckets_NB = np.arange(bands) * SPLITS + (hashes_NB % np.uint64(SPLITS)).astype(np.int64)
        self._bands.add(records.reshape(-1), buckets_NB.reshape(-1))
        self._count += len(keys)

    def _check_order(self, members: np.ndarray) -> None:
        projects = np.concatenate([[self._last[0]], members["project"]])
        rows = np.concatenate([[self._last[1]], members["row"]])
        later = (projects[1:] > projects[:-1]) | ((projects[1:] == projects[:-1]) & (rows[1:] > rows[:-1]))
        self._ascending = self._ascending and bool(later.all())
        self._last = (int(projects[-1]), int(rows[-1]))

    def duplicates(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield blocks of duplicates: their rows, and for each the row that is kept instead (both int64)."""
        self._signatures.flush()
        self._members.flush()
        if not self._count:
            return
        clusters = Clusters(self._count)
        for bucket in range(self.rule.bands * SPLITS):
            self._join_similar(self._bands.read(bucket), clusters)
        with KeyGroups(self.folder / "clusters") as groups:
            self._add_clusters(clusters, groups)
            yield from groups.duplicates()

    def _join_similar(self, records: np.ndarray, clusters: Clusters) -> None:
        """Join similar files in `clusters`. `records` has files with the hash of one band; those with equal hashes are compared."""
        records = self._sort_records(records[find_repeated(records["hash"])])
        if not len(records):
            return
        is_first = np.ones(len(records), bool)
        is_first[1:] = records["hash"][1:] != records["hash"][:-1]
        first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        numbers = records["number"]
        members = np.arange(len(records))
        for place in range(LEADERS):
            members = members[members >= first[members] + place]
            leading, others = numbers[first[members] + place], numbers[members]
            apart = clusters.find_roots(leading) != clusters.find_roots(others)
            if not apart.any():
                return
            self._join_pairs(leading[apart], others[apart], clusters)
            is_open = np.zeros(len(records), bool)  # groups with members that are not joined to their leader yet
            is_open[first[members[apart]]] = True
            members = members[is_open[first[members]]]

    def _sort_records(self, records: np.ndarray) -> np.ndarray:
        """Return the records sorted by the hash of the band, then project and row."""
        if self._ascending:
            return records[np.lexsort((records["number"], records["hash"]))]
        members = np.memmap(self.folder / "members", MEMBER, "r")[records["number"]]
        return records[np.lexsort((members["row"], members["project"], records["hash"]))]

    def _join_pairs(self, first: np.ndarray, second: np.ndarray, clusters: Clusters) -> None:
        for start in range(0, len(first), PAIRS_AT_ONCE):
            one, other = first[start : start + PAIRS_AT_ONCE], second[start : start + PAIRS_AT_ONCE]
            agreeing = (self._read_signatures(one) == self._read_signatures(other)).sum(axis=1)
            alike = agreeing >= self.rule.min_equal_hashes
            clusters.join(one[alike], other[alike])

    def _read_signatures(self, numbers: np.ndarray) -> np.ndarray:
        """Return signatures of shape [N, P], uint16. The file is not memory-mapped, since mapped pages count as process memory."""
        size = self.rule.key_bytes
        wanted, places = np.unique(numbers, return_inverse=True)
        read = b"".join([os.pread(self._signatures.fileno(), size, number * size) for number in wanted.tolist()])
        return np.frombuffer(read, np.uint16).reshape(-1, self.rule.permutations)[places]

    def _add_clusters(self, clusters: Clusters, groups: KeyGroups) -> None:
        """Add each file that is in a cluster with others to `groups`. Its key is the cluster's root, the smallest file number."""
        has_others = np.zeros(self._count, bool)
        for numbers in self._iter_number_blocks():
            roots = clusters.find_roots(numbers)
            has_others[roots[roots != numbers]] = True
        for numbers in self._iter_number_blocks():
            roots = clusters.find_roots(numbers)
            chosen = np.flatnonzero((roots != numbers) | has_others[numbers])
            offset = int(numbers[0]) * MEMBER.itemsize
            members = np.fromfile(self.folder / "members", MEMBER, len(numbers), offset=offset)[chosen]
            keys = np.zeros((len(chosen), 2), np.uint64)
            keys[:, 0] = roots[chosen]
            groups.add(keys.view("V16").reshape(-1), members["project"], members["row"])

    def _iter_number_blocks(self) -> Iterator[np.ndarray]:
        """Yield the numbers of all files in blocks (int64), to bound memory."""
        for start in range(0, self._count, 2**20):
            yield np.arange(start, min(start + 2**20, self._count))
