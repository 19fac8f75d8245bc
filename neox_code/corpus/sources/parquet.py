"""Parquet datasets: a file, or a folder of shards; rows become files by the spellings of columns.py.

    source = ParquetSource("the-stack", (Path("data/train-00000.parquet"), Path("data/train-00001.parquet")))

Row groups are read in batches of about 8 MiB by their footer, ROWS_AT_ONCE rows at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.sources.batches import BATCH_BYTES, ListedBatch
from neox_code.corpus.sources.columns import NO_TEXT, columns_of, found_row
from neox_code.corpus.sources.compressed import Damage, until_damaged
from neox_code.corpus.sources.names import archive_stem, printable
from neox_code.corpus.sources.protocol import Batch, FoundFile, Judge, Project

ROWS_AT_ONCE = 128
DAMAGED = (pa.ArrowException, OSError, ValueError, MemoryError)


@dataclass(frozen=True)
class ParquetSource:
    name: str
    files: tuple[Path, ...]
    languages: frozenset[str] | None = None

    def batches(self, judge: Judge) -> Iterator[Batch]:
        for file in self.files:
            for batch in until_damaged(self._batches(file, judge), file, DAMAGED):
                yield ListedBatch((damaged(self.name, file, f": {batch.words}"),)) if isinstance(batch, Damage) else batch

    def _batches(self, file: Path, judge: Judge) -> Iterator[Batch]:
        with pq.ParquetFile(file) as shard:
            metadata = shard.metadata
            columns = columns_of(tuple(shard.schema_arrow.names))
            sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
            rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        if "text" not in columns:
            yield ListedBatch((FoundFile(Project(self.name), "", 0, f"{printable(file.name)} has {NO_TEXT} column"),))
            return
        first = 0
        for index in range(len(sizes)):
            size = sum(sizes[first : index + 1])
            if size >= BATCH_BYTES or index == len(sizes) - 1:
                groups = tuple(range(first, index + 1))
                yield ParquetBatch(self.name, file, groups, sum(rows[:first]), sum(rows[first : index + 1]), size, columns, judge)
                first = index + 1


@dataclass(frozen=True)
class ParquetBatch:
    """Row groups that follow each other."""

    dataset: str
    file: Path
    row_groups: tuple[int, ...]
    first_row: int
    num_rows: int
    num_bytes: int
    columns: dict[str, str]
    judge: Judge

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        stem = printable(archive_stem(self.file.name))
        for number, row in enumerate(until_damaged(self._rows(), self.file, DAMAGED)):
            if isinstance(row, Damage):
                yield damaged(self.dataset, self.file, f" after {number:,} rows: {row.words}"), self.num_bytes
                return
            place = f"{stem}/{self.first_row + number:09d}"
            yield found_row(row, self.dataset, place, self.judge), self.num_bytes * (number + 1) // self.num_rows

    def _rows(self) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(self.file, buffer_size=2**20) as shard:
            names = list(self.columns.values())
            for rows in shard.iter_batches(ROWS_AT_ONCE, list(self.row_groups), names, use_threads=False):
                fields = [plain_values(rows.column(name)) for name in names]
                for values in zip(*fields, strict=True):
                    yield dict(zip(self.columns, values, strict=True))


def plain_values(column: Any) -> Iterator[Any]:
    """A column's values; text as bytes, which need not be UTF-8 and are not copied twice."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.view(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
    return (value.as_py() for value in column)


def damaged(dataset: str, file: Path, how: str) -> FoundFile:
    return FoundFile(Project(dataset), "", 0, f"{printable(file.name)} is damaged{how}")
