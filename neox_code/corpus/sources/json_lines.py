"""JSON Lines datasets: one object per line, in plain or compressed files. A file may also be one JSON list of objects.

    source = JsonLinesSource("code", (Path("code-00.jsonl.zst"), Path("code-01.jsonl.zst")))

A plain file is read in slices of about 8 MiB. A compressed file or a JSON list is read as a whole. columns.py finds the columns by
their names. Fields under `meta`, as in lm_dataformat's files, are read as fields of the row.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from neox_code.corpus.sources.batches import BATCH_BYTES, LFS_POINTER, ListedBatch, is_lfs_pointer
from neox_code.corpus.sources.columns import LARGEST_ROW, find_columns, make_found_file
from neox_code.corpus.sources.compressed import BrokenArchive, Damage, is_compressed, open_decompressed, yield_with_damage
from neox_code.corpus.sources.protocol import Batch, FileCheck, FoundFile, Project
from neox_code.corpus.sources.source_names import drop_suffixes, find_language, make_printable

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DAMAGED_ROW = "damaged row"
LARGEST_LIST = 2**30
"""Maximum size of a JSON list in bytes, because it is read as a whole."""
PEEKED = 64
JSON_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|[^\s,:\[\]{}"]+', re.DOTALL)
LARGE_ROW = f"row of more than {LARGEST_ROW:,} bytes"


@dataclass(frozen=True)
class JsonLinesSource:
    name: str
    files: tuple[Path, ...]
    language: str | None = None
    """Language of rows that state no language; None: the language in the name of the file's folder."""

    def batches(self, check: FileCheck) -> Iterator[Batch]:
        """Yield a batch for each slice of a plain file, and for each compressed file or JSON list."""
        for file in self.files:
            if is_lfs_pointer(file):
                yield ListedBatch((FoundFile(Project(self.name), make_printable(file.name), 0, LFS_POINTER),))
                continue
            size = file.stat().st_size
            language = self.language or find_language(file.parent.name)
            if must_read_whole(file):
                yield JsonLinesBatch(self.name, file, 0, None, size, check, language)
                continue
            for start in range(0, size, BATCH_BYTES):
                end = min(start + BATCH_BYTES, size)
                yield JsonLinesBatch(self.name, file, start, end, end - start, check, language)


@dataclass(frozen=True)
class JsonLinesBatch:
    """The rows that begin between two positions of a file."""

    dataset: str
    file: Path
    start: int
    end: int | None
    """End position; None for a file that is read as a whole."""
    num_bytes: int
    check: FileCheck
    language: str | None = None

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        for rows, found in enumerate(yield_with_damage(read_lines(self.file, self.start, self.end), self.file)):
            if isinstance(found, Damage):
                reason = f"{make_printable(self.file.name)} is damaged after {rows:,} rows: {found.words}"
                yield FoundFile(Project(self.dataset), "", 0, reason), self.num_bytes
                return
            place, line, position = found
            if not line.isspace():
                yield self._make_found_file(place, line), min(position - self.start, self.num_bytes)

    def _make_found_file(self, place: int, line: bytes) -> FoundFile:
        name = f"{make_printable(drop_suffixes(self.file.name))}/{place:012d}"
        if len(line) > LARGEST_ROW:
            return FoundFile(Project(self.dataset), name, 0, LARGE_ROW)
        row = parse_row(line)
        if row is None:
            return FoundFile(Project(self.dataset), name, len(line), DAMAGED_ROW)
        columns = find_columns(row)
        return make_found_file(
            {field: row[column] for field, column in columns.items()}, self.dataset, name, self.check, self.language
        )


def read_lines(file: Path, start: int, end: int | None) -> Iterator[tuple[int, bytes, int]]:
    """Yield (position, bytes, progress) for each line or element of a JSON list. The progress is the bytes read from the file."""
    with open_decompressed(file) as (stream, position):
        is_list = end is None and is_list_start(stream.peek(PEEKED))  # type: ignore[attr-defined]
        for place, line in read_elements(stream) if is_list else read_lines_between(stream, start, end):
            yield place, line, position()


def must_read_whole(file: Path) -> bool:
    """Return True for a file that cannot be read in slices: a compressed one, or one JSON list."""
    with open_decompressed(file) as (stream, _):
        return is_compressed(file) or is_list_start(stream.read(PEEKED))


def is_list_start(start: bytes) -> bool:
    return start.removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"["


def read_elements(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield each element of a JSON list with its position. Raise BrokenArchive for a list that is too large or does not end."""
    data = stream.read(LARGEST_LIST + 1)
    if len(data) > LARGEST_LIST:
        raise BrokenArchive(f"a JSON list of more than {LARGEST_LIST:,} bytes; make it JSON Lines (jq -c '.[]')")
    depth = start = 0
    for token in JSON_TOKEN.finditer(data):
        is_opening = token[0] in (b"[", b"{")
        if depth == 1 and token[0] not in (b"]", b"}"):
            start = token.start()
        if depth == 1 and not is_opening and token[0] != b"]":
            yield start, token[0]
        depth += is_opening - (token[0] in (b"]", b"}"))
        if depth == 1 and token[0] in (b"]", b"}"):
            yield start, data[start : token.end()]
        if depth == 0:
            return
    raise BrokenArchive("its JSON list does not end")


def read_lines_between(stream: IO[bytes], start: int, end: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield position and bytes of each line that begins at `start` or later and before `end`. Truncate a line that is too long."""
    place = start
    if start:
        stream.seek(start - 1)
        place += skip_rest_of_line(stream) - 1
    while (end is None or place < end) and (line := stream.readline(LARGEST_ROW + 1)):
        yield place, line
        place += len(line)
        if len(line) > LARGEST_ROW and not line.endswith(b"\n"):
            place += skip_rest_of_line(stream)


def skip_rest_of_line(stream: IO[bytes]) -> int:
    """Skip the rest of a line, and return its length in bytes."""
    passed = 0
    while part := stream.readline(2**20):
        passed += len(part)
        if part.endswith(b"\n"):
            break
    return passed


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Return the columns of a row; None if the line is no JSON object."""
    try:
        row = orjson.loads(line.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict):
        return None
    return row["meta"] | row if isinstance(row.get("meta"), dict) else row
