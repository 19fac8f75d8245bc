"""Sort files on disk by the rank of their project, then by path. Of several duplicates, the first in this order is kept.

    with FileOrder(folder, files_by_rank, num_keys=1) as order:
        order.add(ranks, paths, rows, [keys])               # any number of times, in any order
        for ranks, rows, keys in order.read_sorted():            # any number of times
            ...

Files are divided by rank into at most MAX_BUCKETS buckets, and each bucket is sorted in memory. A bucket holds a quarter million
files. It holds more only if a single project has more.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BUCKET_FILES = 2**18
MAX_BUCKETS = 256
FILES_AT_ONCE = 2_048


class FileOrder:
    def __init__(self, folder: Path, files_by_rank: np.ndarray, num_keys: int):
        self.folder = folder
        total = int(files_by_rank.sum())
        bucket_files = max(BUCKET_FILES, total // MAX_BUCKETS)
        ends = np.cumsum(files_by_rank)
        self._bucket_of_rank = np.minimum((ends - 1).clip(0) // bucket_files, max(0, total - 1) // bucket_files)
        self._num_buckets = int(self._bucket_of_rank.max(initial=0)) + 1
        self._keys = [f"key{number}" for number in range(num_keys)]
        self._pending: list[list[pa.Table]] = [[] for _ in range(self._num_buckets)]
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}

    def __enter__(self) -> "FileOrder":
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, ranks: np.ndarray, paths: pa.ChunkedArray, rows: np.ndarray, keys: Sequence[pa.ChunkedArray]) -> None:
        table = pa.table({"rank": ranks, "path": paths, "row": rows} | dict(zip(self._keys, keys, strict=True)))
        buckets = self._bucket_of_rank[ranks]
        for bucket in np.unique(buckets):
            self._pending[bucket].append(table.filter(pa.array(buckets == bucket)) if self._num_buckets > 1 else table)
            if self._num_buckets > 1 and sum(map(len, self._pending[bucket])) >= FILES_AT_ONCE:
                self._spill(bucket)

    def read_sorted(self) -> Iterator[tuple[np.ndarray, np.ndarray, list[pa.Array]]]:
        """Yield blocks of files in order: ranks and rows (both int64, shape [files]), and one array per key."""
        if self._num_buckets > 1:
            for bucket in range(self._num_buckets):
                self._spill(bucket)
            self._close()
        for bucket in range(self._num_buckets):
            tables = self._pending[bucket] if self._num_buckets == 1 else self._read(bucket)
            if tables:
                table = pa.concat_tables(tables)
                table = table.take(pc.sort_indices(table, [("rank", "ascending"), ("path", "ascending"), ("row", "ascending")]))
                keys = [table[key].combine_chunks() for key in self._keys]
                yield table["rank"].to_numpy(), table["row"].to_numpy(), keys

    def _spill(self, bucket: int) -> None:
        if not self._pending[bucket]:
            return
        table = pa.concat_tables(self._pending[bucket])
        self._pending[bucket] = []
        if bucket not in self._writers:
            self._writers[bucket] = pa.ipc.new_stream(str(self._file(bucket)), table.schema)
        self._writers[bucket].write_table(table)

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _read(self, bucket: int) -> list[pa.Table]:
        if not self._file(bucket).exists():
            return []
        with pa.ipc.open_stream(str(self._file(bucket))) as reader:
            return [reader.read_all()]

    def _file(self, bucket: int) -> Path:
        return self.folder / f"{bucket:03d}.arrow"


def make_key_array(keys: pa.Array, key_bytes: int) -> np.ndarray:
    """Return keys (without nulls) as an array of shape [keys] and dtype V`key_bytes`."""
    data = np.frombuffer(keys.buffers()[1], dtype=f"V{key_bytes}")
    return data[keys.offset : keys.offset + len(keys)]
