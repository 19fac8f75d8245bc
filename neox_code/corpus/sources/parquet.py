"""Parquet datasets: a file or several shards. columns.py converts each row to a file.

    source = ParquetSource("the-stack", (Path("data/train-00000.parquet"), Path("data/train-00001.parquet")))

A batch has row groups of about 8 MiB together; their sizes are in the file's footer. ROWS_AT_ONCE rows are read at a time, or fewer
if rows are large. Reading ends at a column that expands to more than EXPANSION_RATIO times its size, or at a row that is larger
than LARGEST_ROW.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.sources.batches import BATCH_BYTES, LFS_POINTER, ListedBatch, is_lfs_pointer
from neox_code.corpus.sources.columns import LARGEST_ROW, NO_TEXT, ONLY_BLOB_IDS, find_columns, make_found_file
from neox_code.corpus.sources.compressed import (
    EXPANDS,
    EXPANSION_ALLOWED,
    EXPANSION_RATIO,
    BrokenArchive,
    Damage,
    yield_with_damage,
)
from neox_code.corpus.sources.protocol import Batch, FileCheck, FoundFile, Project
from neox_code.corpus.sources.source_names import drop_suffixes, find_language, make_printable

ROWS_AT_ONCE = 128
BYTES_AT_ONCE = 2**26
SMALL_CHUNK = 2**24
"""Size in bytes of an expanded column, up to which the compression ratio is not limited."""
DAMAGED = (BrokenArchive, pa.ArrowException, OSError, ValueError, MemoryError)


@dataclass(frozen=True)
class ParquetSource:
    name: str
    files: tuple[Path, ...]
    language: str | None = None
    """Language of rows that state no language; None: the language in the name of the file's folder."""

    def batches(self, check: FileCheck) -> Iterator[Batch]:
        for file in self.files:
            for batch in yield_with_damage(self._batches(file, check), file, DAMAGED):
                yield ListedBatch((make_damaged_file(self.name, file, f": {batch.words}"),)) if isinstance(batch, Damage) else batch

    def _batches(self, file: Path, check: FileCheck) -> Iterator[Batch]:
        if is_lfs_pointer(file):
            yield ListedBatch((FoundFile(Project(self.name), make_printable(file.name), 0, LFS_POINTER),))
            return
        with pq.ParquetFile(file) as shard:
            metadata, names = shard.metadata, shard.schema_arrow.names
        columns = find_columns(names)
        if "text" not in columns:
            missing = ONLY_BLOB_IDS if "blob" in columns else f"{NO_TEXT} column"
            place = f"{make_printable(file.name)}, which has {make_printable(', '.join(names))}"
            yield ListedBatch((FoundFile(Project(self.name), "", 0, f"{missing}: {place}"),))
            return
        language = self.language or find_language(file.parent.name)
        first_group = first_row = num_rows = num_bytes = 0
        for index in range(metadata.num_row_groups):
            num_rows += metadata.row_group(index).num_rows
            num_bytes += metadata.row_group(index).total_byte_size
            if num_bytes >= BATCH_BYTES or index == metadata.num_row_groups - 1:
                groups = tuple(range(first_group, index + 1))
                yield ParquetBatch(self.name, file, groups, first_row, num_rows, num_bytes, columns, check, language)
                first_group, first_row = index + 1, first_row + num_rows
                num_rows = num_bytes = 0


@dataclass(frozen=True)
class ParquetBatch:
    dataset: str
    file: Path
    row_groups: tuple[int, ...]
    first_row: int
    num_rows: int
    num_bytes: int
    columns: dict[str, str]
    check: FileCheck
    language: str | None = None

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        """Yield the file that each row holds, and the number of bytes read from the shard so far."""
        stem = make_printable(drop_suffixes(self.file.name))
        for number, row in enumerate(yield_with_damage(self._rows(), self.file, DAMAGED)):
            if isinstance(row, Damage):
                yield make_damaged_file(self.dataset, self.file, f" after {number:,} rows: {row.words}"), self.num_bytes
                return
            place = f"{stem}/{self.first_row + number:09d}"
            yield (
                make_found_file(row, self.dataset, place, self.check, self.language),
                self.num_bytes * (number + 1) // self.num_rows,
            )

    def _rows(self) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(self.file, buffer_size=2**20, pre_buffer=False) as shard:
            names = list(self.columns.values())
            chunks = [chunk for index in self.row_groups for chunk in find_column_chunks(shard.metadata.row_group(index), names)]
            allowed = max(EXPANSION_ALLOWED, EXPANSION_RATIO * sum(chunk.total_compressed_size for chunk in chunks))
            for rows in shard.iter_batches(choose_rows_at_once(chunks), list(self.row_groups), names, use_threads=False):
                for values in zip(*(read_plain_values(rows.column(name)) for name in names), strict=True):
                    row = dict(zip(self.columns, values, strict=True))
                    allowed -= len(row["text"]) if isinstance(row["text"], bytes) else 0
                    if allowed < 0:
                        raise BrokenArchive(EXPANDS)
                    yield row


def find_column_chunks(group: pq.RowGroupMetaData, names: Sequence[str]) -> Iterator[pq.ColumnChunkMetaData]:
    """Yield the metadata of some columns of a row group. A column of lists has its name as the first part of its path."""
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema.partition(".")[0] in names:
            yield chunk


def choose_rows_at_once(chunks: Sequence[pq.ColumnChunkMetaData]) -> int:
    """Return the number of rows to read at once, which bounds memory. Raise BrokenArchive for columns that are too large."""
    largest = 1.0
    for chunk in chunks:
        expanded = chunk.total_uncompressed_size
        if expanded > max(SMALL_CHUNK, EXPANSION_RATIO * chunk.total_compressed_size):
            raise BrokenArchive(EXPANDS)
        largest = max(largest, expanded / max(chunk.num_values, 1))
    if largest > LARGEST_ROW:
        raise BrokenArchive(f"its rows have more than {LARGEST_ROW:,} bytes")
    return min(max(int(BYTES_AT_ONCE / largest), 1), ROWS_AT_ONCE)


def read_plain_values(column: Any) -> Iterator[Any]:
    """Return the values of a column; texts as bytes."""
    if pa.types.is_dictionary(column.type):
        words = as_bytes(column.dictionary)
        return (None if index is None else words[index].as_py() for index in column.indices.to_pylist())
    return (value.as_py() for value in as_bytes(column))


def as_bytes(column: Any) -> Any:
    """Return a text column as a column of bytes, since a file can store invalid UTF-8."""
    if pa.types.is_string(column.type):
        return column.view(pa.binary())
    return column.view(pa.large_binary()) if pa.types.is_large_string(column.type) else column


def make_damaged_file(dataset: str, file: Path, how: str) -> FoundFile:
    return FoundFile(Project(dataset), "", 0, f"{make_printable(file.name)} is damaged{how}")
