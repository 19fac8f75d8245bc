"""Read rows from files: JSON Lines and JSON lists, plain or compressed, and Parquet.

    files = find_row_files(["rows/train-*.jsonl", "corpus/train"])
    for place, row in read_rows(files[0]):
        row["instruction"]                   # `place` is the file and the number of the row, for messages

A row that is no JSON object, or is not UTF-8, is a BadRow in place of a dictionary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.sources.compressed import DAMAGED, Damage, yield_with_damage
from neox_code.corpus.sources.json_lines import BYTE_ORDER_MARK, read_lines
from neox_code.errors import DataError

SUFFIXES = (".jsonl", ".json", ".ndjson")
COMPRESSED = ("", ".gz", ".zst", ".bz2", ".xz")
ROW_FILES = (*(suffix + compressed for suffix in SUFFIXES for compressed in COMPRESSED), ".parquet")
"""Endings of the files that are read in a folder."""

PARQUET_ROWS = 1024
PARQUET_DAMAGED = (*DAMAGED, pa.ArrowException)


class RowPlace(NamedTuple):
    file: Path
    number: int
    """Number of the line in JSON Lines, of the element or of the row in other files, from 1."""

    def __str__(self) -> str:
        return f"{self.file} row {self.number:,}"


@dataclass(frozen=True)
class BadRow:
    """The reason why a row cannot be used, and what was found."""

    reason: str
    """One of a few texts, under which such rows are counted."""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} {self.detail}".rstrip()


Row = dict[str, Any]


def find_row_files(names: Sequence[str], key: str) -> list[Path]:
    """Return the files that `names`, the value of a key, stand for: files, patterns with `*`, and folders. Raise DataError."""
    found: list[Path] = []
    for name in names:
        paths = sorted(Path(Path(name).anchor).glob(name.removeprefix(Path(name).anchor))) if "*" in name else [Path(name)]
        for path in paths:
            own = sorted(each for each in path.rglob("*") if is_row_file(each)) if path.is_dir() else [path]
            found += [each for each in own if each.is_file()]
        if not found:
            raise DataError(f"{key}: {name} has no file of rows ({', '.join((*SUFFIXES, '.parquet'))}). Correct the path.")
    return list(dict.fromkeys(found))


def is_row_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name.endswith(ROW_FILES)


def read_rows(file: Path) -> Iterator[tuple[RowPlace, Row | BadRow]]:
    """Yield the rows of a file. Raise DataError if the file is damaged."""
    is_parquet = file.suffix == ".parquet"
    rows = read_parquet_rows(file) if is_parquet else read_json_rows(file)
    number = 0
    for found in yield_with_damage(rows, file, PARQUET_DAMAGED if is_parquet else DAMAGED):
        if isinstance(found, Damage):
            raise DataError(f"{file} is damaged after row {number:,}: {found.words}. Copy the file again.")
        number, row = found
        yield RowPlace(file, number), row


def read_json_rows(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    for number, (_, line, _) in enumerate(read_lines(file, 0, None), 1):
        if not line.isspace():
            yield number, parse_json_row(line)


def parse_json_row(line: bytes) -> Row | BadRow:
    """Return the row in a line; a BadRow if the line is not UTF-8 or no JSON object."""
    line = line.removeprefix(BYTE_ORDER_MARK)
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as wrong:
            return BadRow("is not UTF-8", f"(byte 0x{line[wrong.start]:02X} at {wrong.start:,})")
        return BadRow("is not JSON", f"({error})")
    return row if isinstance(row, dict) else BadRow("is no JSON object", f"({type(row).__name__})")


def read_parquet_rows(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    number = 0
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(PARQUET_ROWS, use_threads=False):
            for place in range(batch.num_rows):
                number += 1
                try:
                    yield number, {name: column[place].as_py() for name, column in zip(batch.schema.names, batch, strict=True)}
                except UnicodeDecodeError as error:
                    yield number, BadRow("is not UTF-8", f"(byte 0x{error.object[error.start]:02X} at {error.start:,})")
