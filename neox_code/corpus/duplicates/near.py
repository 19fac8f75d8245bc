"""Near duplicates: texts that have most of their shingles in common, by MinHash.

    rule = NearDuplicates(threshold=0.7)
    with rule.groups(folder) as groups:                        # folder: 2 * permutations + 16 * bands + 16 bytes a file
        groups.add(keys, projects, rows)
        for dropped, survivors in groups.duplicates():
            ...

A key is the text's signature. Signatures that agree in all places of a band are compared, and texts that are alike by the whole
signature belong together, as do those connected through others. Of such a cluster the least (project, row) survives.

With 25 bands of 5 places a pair that has 0.7 of its shingles in common is compared with probability 0.99, one that has 0.8 nearly
always. Whether it is alike is then estimated from 128 places: the standard error at 0.7 is 0.04. Measured against an exhaustive
search (`deepy.py benchmark data --part near`), on two samples of 24 MB of Debian's source code with 368 and 130 pairs alike: 99.5%
and 96.2% of them are in one cluster; in datasketch's at the same threshold and permutations 91.6% and 84.6%.

Of the members of a band with equal places the first LEADERS, by project and row, are compared with all others. Memory: 5 bytes a
file, and one of SPLITS parts of a band at a time (100 million files: 0.7 GB in all).
"""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from neox_code.corpus.duplicates.buckets import Buckets
from neox_code.corpus.duplicates.clusters import Clusters
from neox_code.corpus.duplicates.exact import KeyGroups, in_larger_runs
from neox_code.corpus.duplicates.signatures import BASE, Signatures, powers
from neox_code.errors import DataError

LEADERS = 64
SPLITS = 64
FILES_AT_ONCE = 2**14
PAIRS_AT_ONCE = 2**13
MEMBER = np.dtype([("project", np.int64), ("row", np.int64)])
BAND = np.dtype([("places", np.uint64), ("number", np.int64)])

signatures = cache(Signatures)


@dataclass(frozen=True)
class NearDuplicates:
    threshold: float = 0.7
    """Texts that are alike have at least this part of their shingles in common."""
    permutations: int = 128
    """Places of a signature: more estimate better and cost more."""
    bands: int = 25
    """A signature is divided into so many; texts that agree in one are compared. More find more pairs and cost more."""
    shingle_words: int = 5
    name = "near duplicate"

    def __post_init__(self) -> None:
        if not (0 < self.threshold <= 1 and 1 <= self.bands <= self.permutations and self.shingle_words >= 1):
            raise DataError(
                f"{self} cannot be: the threshold is above 0 and at most 1, there are no more bands than permutations, and at "
                "least one of each and one word in a shingle. Mend the recipe."
            )

    @property
    def key_bytes(self) -> int:
        return 2 * self.permutations

    @property
    def places_in_band(self) -> int:
        return self.permutations // self.bands

    @property
    def least_agreeing(self) -> int:
        """Places in which two signatures agree, at least, when texts are alike."""
        return math.ceil(round(self.threshold * self.permutations, 6))

    def key(self, content: bytes, text: str) -> bytes | None:
        signature = signatures(self.permutations, self.shingle_words)(text)
        return None if signature is None else signature.tobytes()

    @contextmanager
    def groups(self, folder: Path) -> Iterator["NearGroups"]:
        with NearGroups(self, folder / "near") as groups:
            yield groups


class NearGroups:
    """Legend: N files, B bands, P places of a signature."""

    def __init__(self, rule: NearDuplicates, folder: Path):
        self.rule = rule
        self.folder = folder
        self._count = 0
        self._last = (-1, -1)
        self._ascending = True
        self._factors = powers(BASE, rule.places_in_band + 1)[1:]

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
        self._watch_order(members)
        bands, places = self.rule.bands, self.rule.places_in_band
        signatures_NP = keys.view(np.uint16).reshape(len(keys), -1)[:, : bands * places]
        hashes_NB = (signatures_NP.reshape(-1, bands, places) * self._factors).sum(axis=2)
        records = np.empty(hashes_NB.shape, BAND)
        records["places"] = hashes_NB
        records["number"] = np.arange(self._count, self._count + len(keys))[:, None]
        buckets_NB = np.arange(bands) * SPLITS + (hashes_NB % np.uint64(SPLITS)).astype(np.int64)
        self._bands.add(records.reshape(-1), buckets_NB.reshape(-1))
        self._count += len(keys)

    def _watch_order(self, members: np.ndarray) -> None:
        projects = np.concatenate([[self._last[0]], members["project"]])
        rows = np.concatenate([[self._last[1]], members["row"]])
        later = (projects[1:] > projects[:-1]) | ((projects[1:] == projects[:-1]) & (rows[1:] > rows[:-1]))
        self._ascending = self._ascending and bool(later.all())
        self._last = (int(projects[-1]), int(rows[-1]))

    def duplicates(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self._signatures.flush()
        self._members.flush()
        if not self._count:
            return
        clusters = Clusters(self._count)
        for bucket in range(self.rule.bands * SPLITS):
            self._join_alike(self._bands.read(bucket), clusters)
        with KeyGroups(self.folder / "clusters") as groups:
            self._add_clusters(clusters, groups)
            yield from groups.duplicates()

    def _join_alike(self, records: np.ndarray, clusters: Clusters) -> None:
        """Joins what is alike among files that have the places of a band in common."""
        records = self._in_order(records[in_larger_runs(records["places"])])
        if not len(records):
            return
        is_first = np.ones(len(records), bool)
        is_first[1:] = records["places"][1:] != records["places"][:-1]
        first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        numbers = records["number"]
        members = np.arange(len(records))
        for place in range(LEADERS):
            members = members[members >= first[members] + place]
            leading, others = numbers[first[members] + place], numbers[members]
            apart = clusters.roots(leading) != clusters.roots(others)
            if not apart.any():
                return
            self._join_pairs(leading[apart], others[apart], clusters)
            is_open = np.zeros(len(records), bool)  # groups of which some were not together with their leader
            is_open[first[members[apart]]] = True
            members = members[is_open[first[members]]]

    def _in_order(self, records: np.ndarray) -> np.ndarray:
        """Sorted by the band's places, then project and row."""
        if self._ascending:
            return records[np.lexsort((records["number"], records["places"]))]
        members = np.memmap(self.folder / "members", MEMBER, "r")[records["number"]]
        return records[np.lexsort((members["row"], members["project"], records["places"]))]

    def _join_pairs(self, first: np.ndarray, second: np.ndarray, clusters: Clusters) -> None:
        for start in range(0, len(first), PAIRS_AT_ONCE):
            one, other = first[start : start + PAIRS_AT_ONCE], second[start : start + PAIRS_AT_ONCE]
            agreeing = (self._signatures_of(one) == self._signatures_of(other)).sum(axis=1)
            alike = agreeing >= self.rule.least_agreeing
            clusters.join(one[alike], other[alike])

    def _signatures_of(self, numbers: np.ndarray) -> np.ndarray:
        """[N, P]. Read, not mapped: mapped pages would count as this process's memory."""
        size = self.rule.key_bytes
        wanted, places = np.unique(numbers, return_inverse=True)
        read = b"".join([os.pread(self._signatures.fileno(), size, number * size) for number in wanted.tolist()])
        return np.frombuffer(read, np.uint16).reshape(-1, self.rule.permutations)[places]

    def _add_clusters(self, clusters: Clusters, groups: KeyGroups) -> None:
        """Every file of a cluster of two or more, with the cluster's root as its key."""
        has_others = np.zeros(self._count, bool)
        for numbers in self._blocks():
            roots = clusters.roots(numbers)
            has_others[roots[roots != numbers]] = True
        for numbers in self._blocks():
            roots = clusters.roots(numbers)
            chosen = np.flatnonzero((roots != numbers) | has_others[numbers])
            offset = int(numbers[0]) * MEMBER.itemsize
            members = np.fromfile(self.folder / "members", MEMBER, len(numbers), offset=offset)[chosen]
            keys = np.zeros((len(chosen), 2), np.uint64)
            keys[:, 0] = roots[chosen]
            groups.add(keys.view("V16").reshape(-1), members["project"], members["row"])

    def _blocks(self) -> Iterator[np.ndarray]:
        """The numbers of all files."""
        for start in range(0, self._count, 2**20):
            yield np.arange(start, min(start + 2**20, self._count))
