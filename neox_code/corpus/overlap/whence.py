"""Longest verbatim overlap of a text with the training split of a corpus, with its repository, path and license.

    index = build_overlap_index("data/corpus", workers=8)       # once for a corpus; 0.8 bytes for each byte of text
    overlap = index.find_longest(completion)                    # None, or Overlap(begin=12, length=211, repository="tj/n", ...)

    CORPUS/overlap/shard-00000.hashes.npy     uint64 [seeds], ascending
    CORPUS/overlap/shard-00000.places.npy     uint32 [seeds, 2]: number of the document in its shard, offset in bytes

Every overlap of at least 64 bytes is found, except for a passage in more than MOST_PLACES places, such as a license header. Of
such a passage only the first MOST_PLACES places are compared.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neox_code.corpus.overlap.seeds import SEED_BYTES, hash_substrings, select_seeds
from neox_code.corpus.shards import SUMMARY_FILE, Document, list_shard_files, read_documents, read_shard
from neox_code.errors import DataError
from neox_code.files import atomic_file
from neox_code.logs import get_logger, progress
from neox_code.processes.workers import Workers, count_available_cores

log = get_logger(__name__)

FOLDER = "overlap"
MOST_PLACES = 200
"""Maximum number of places in documents that are compared for one seed of a text."""

MOST_COMPARED = 100
"""Maximum number of alignments of a text with a document that are compared byte by byte."""

KEPT_GROUPS = 8
"""Row groups of Parquet files that stay in memory while texts are looked up."""


@dataclass(frozen=True)
class Overlap:
    """A passage of a text that is in a document of the training split, byte for byte."""

    begin: int
    """Offset of the passage in the text, in bytes of UTF-8."""
    length: int
    """Length of the passage in bytes."""
    repository: str
    path: str
    commit: str | None
    license: str | None
    line: int
    """Line of the document in which the passage begins, from 1."""


def build_overlap_index(folder: str | Path, workers: int | None = None) -> "OverlapIndex":
    """Write the missing files of the index and return it. A killed build resumes with the shards that are missing."""
    shards = list_shard_files(folder, "train")
    missing = [shard for shard in shards if not all(path.is_file() for path in index_files(folder, shard))]
    total = sum(shard.stat().st_size for shard in missing)
    if missing:
        log.info("indexing %d of %d shards of %s", len(missing), len(shards), folder)
        tasks = [(shard, *index_files(folder, shard)) for shard in missing]
        count = min(workers or count_available_cores(), len(missing))
        with progress("overlap index", total, "B") as advance, Workers(count) as pool:
            for place, _ in pool.run(index_shard, tasks):
                advance(missing[place].stat().st_size)
    return OverlapIndex(folder)


def index_files(folder: str | Path, shard: Path) -> tuple[Path, Path]:
    """Return the two files of a shard's index. Their names depend on the corpus, so the index of an earlier corpus is not read."""
    digest = hashlib.sha256((Path(folder) / SUMMARY_FILE).read_bytes()).hexdigest()[:8]
    stem = f"{digest}-{shard.stem}"
    return Path(folder) / FOLDER / f"{stem}.places.npy", Path(folder) / FOLDER / f"{stem}.hashes.npy"


def index_shard(shard: Path, places_file: Path, hashes_file: Path) -> Iterator[int]:
    """Write the index of a shard; yield the number of its seeds."""
    hashes, places = [], []
    for number, document in enumerate(read_shard(shard, "train")):
        seeds, offsets = select_seeds(document.text.encode())
        hashes.append(seeds)
        places.append(np.stack([np.full(len(offsets), number, np.uint32), offsets], axis=1))
    joined = np.concatenate([*hashes, np.empty(0, np.uint64)])
    order = np.argsort(joined, kind="stable")
    for path, array in ((places_file, np.concatenate([*places, np.empty((0, 2), np.uint32)])[order]), (hashes_file, joined[order])):
        with atomic_file(path, "wb") as file:
            np.save(file, array)
    yield len(joined)


class OverlapIndex:
    """The overlap index of a corpus. Its files are memory-mapped."""

    def __init__(self, folder: str | Path):
        """Raise DataError if the folder is not a corpus or has no complete index."""
        self.shards = list_shard_files(folder, "train")
        try:
            self.arrays = [tuple(np.load(path, mmap_mode="r") for path in index_files(folder, shard)) for shard in self.shards]
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} has no complete overlap index: {error}. Make it with tools/whence.py {folder}.") from None
        self.read_group = lru_cache(KEPT_GROUPS)(read_group)

    def find_longest(self, text: str) -> Overlap | None:
        """Return the longest passage of at least SEED_BYTES bytes that the text shares with a document; None if there is none."""
        encoded = text.encode("utf-8", "replace")
        best: Overlap | None = None
        for number, document, shift in self.list_alignments(hash_substrings(encoded)):
            found = self.read_document(number, document)
            source = found.text.encode()
            begin, length = find_longest_equal(encoded, source, shift)
            if best is None or length > best.length:
                line = source.count(b"\n", 0, begin + shift) + 1
                best = Overlap(begin, length, found.repository, found.path, found.commit, found.license, line)
        return best if best is not None and best.length >= SEED_BYTES else None

    def list_alignments(self, hashes: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
        """Return alignments (shard, document, shift), those with the most common seeds first.

        The shift is the offset in the document minus the offset in the text.
        """
        found = []
        for number, (places, sorted_hashes) in enumerate(self.arrays):
            begins = np.searchsorted(sorted_hashes, hashes, "left")
            ends = np.searchsorted(sorted_hashes, hashes, "right")
            for offset in np.flatnonzero(ends > begins).tolist():
                some = places[begins[offset] : min(ends[offset], begins[offset] + MOST_PLACES)].astype(np.int64)
                found.append(np.stack([np.full(len(some), number), some[:, 0], some[:, 1] - offset], axis=1))
        if not found:
            return []
        alignments, counts = np.unique(np.concatenate(found), axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:MOST_COMPARED]
        return [tuple(row) for row in alignments[order].tolist()]

    def read_document(self, shard: int, document: int) -> Document:
        """Return a document by the number of its shard and its number in the shard."""
        with pq.ParquetFile(self.shards[shard]) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        group = int(np.searchsorted(ends, document, "right"))
        table = self.read_group(self.shards[shard], group)
        return next(read_documents(table.slice(document - int(ends[group]) + sizes[group], 1), "train"))


def read_group(shard: Path, group: int) -> pa.Table:
    with pq.ParquetFile(shard) as file:
        return file.read_row_group(group)


def find_longest_equal(text: bytes, source: bytes, shift: int) -> tuple[int, int]:
    """Compare each `text[i]` with `source[i + shift]`; return begin and length of the longest run of equal bytes.

    >>> find_longest_equal(b"xx = 12", b"def f(): yx = 12", 9)
    (1, 6)
    """
    first, last = max(0, -shift), min(len(text), len(source) - shift)
    equal = np.frombuffer(text, np.uint8)[first:last] == np.frombuffer(source, np.uint8)[first + shift : last + shift]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], equal, [False]]).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    if not len(begins):
        return first, 0
    longest = int(np.argmax(ends - begins))
    return first + int(begins[longest]), int(ends[longest] - begins[longest])


def find_overlaps(index: OverlapIndex, texts: Sequence[str]) -> list[Overlap | None]:
    """Return the longest overlap of each text. Show progress."""
    overlaps = []
    with progress("overlaps", len(texts), "texts") as advance:
        for text in texts:
            overlaps.append(index.find_longest(text))
            advance(1)
    return overlaps
