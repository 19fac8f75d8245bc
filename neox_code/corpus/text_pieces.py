"""Texts to be tokenized, in pieces that can be read apart: of a corpus, a folder, Parquet shards, or JSON Lines.

    for piece in pieces_of(Path("code.jsonl.zst"), key="text"):
        for text in piece.texts():
            print(text.place, text.language, len(text.text))

A piece is about PIECE_BYTES of input, whoever reads it: a row range of a file, some files of a folder, a whole compressed file. It
is small and can be pickled; its `key` tells whether it is still what it was. Nothing is filtered.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.linguist.detect import by_name_alone, detect
from neox_code.corpus.raw_documents import UNKNOWN_LANGUAGE, FileList, iter_files, list_files
from neox_code.corpus.shards import SUMMARY_FILE, load_summary
from neox_code.corpus.sources.columns import LARGEST_ROW, SPELLINGS
from neox_code.corpus.sources.compressed import BrokenArchive, Damage, is_compressed, open_expanded, until_damaged
from neox_code.corpus.sources.json_lines import BYTE_ORDER_MARK, lines_of
from neox_code.corpus.sources.names import language_named
from neox_code.corpus.sources.parquet import chunks_of, rows_at_once
from neox_code.errors import ConfigError, DataError
from neox_code.logs import get_logger

log = get_logger(__name__)

PIECE_BYTES = 32 * 2**20
PARQUET_SUFFIX = ".parquet"
SHOWN_KEYS = 8
LONGEST_LANGUAGE = 64
UNSAFE = re.compile(r"[^\w .+#*-]")
"""What a language's name, which names files, does not keep."""
DEFAULT_KEY = "text"


class Text(NamedTuple):
    text: str
    language: str
    place: str
    """Names it in an error."""
    num_bytes: int
    """Of the input, for the bar."""


class Piece(Protocol):
    @property
    def num_bytes(self) -> int:
        """Of the input, for the bar."""
        ...

    @property
    def key(self) -> str:
        """Another one where the input is another."""
        ...

    def texts(self) -> Iterator[Text]: ...


@dataclass(frozen=True)
class FilesPiece:
    """Some files of a folder, each a text."""

    folder: str
    paths: tuple[str, ...]
    """Relative to the folder."""
    by_content: bool
    """Whether a text's language is found by its content, too, which takes as long as reading it."""
    num_bytes: int
    key: str

    def texts(self) -> Iterator[Text]:
        folder = Path(self.folder)
        for document in iter_files(folder, (folder / path for path in self.paths)):
            language = detect(document.path, document.text) if self.by_content else by_name_alone(document.path)
            yield Text(document.text, language or UNKNOWN_LANGUAGE, f"{self.folder}/{document.path}", document.num_bytes)


@dataclass(frozen=True)
class RowsPiece:
    """The rows of a JSON Lines file that begin in a range of its bytes."""

    file: str
    column: str
    start: int
    end: int | None
    """None: all of a compressed file."""
    num_bytes: int
    key: str

    def texts(self) -> Iterator[Text]:
        told = self.start
        for found in until_damaged(lines_of(Path(self.file), self.start, self.end), Path(self.file)):
            if isinstance(found, Damage):
                raise DataError(f"{self.file} is damaged or breaks off: {found.words}. Get the file again.")
            place, line, position = found
            if not line.isspace():
                row = self._row(place, line)
                now = position if self.end is None else place + len(line)
                named = f"{self.file}, the row at byte {place:,}"
                yield Text(row[self.column], language_of(row, self.column), named, now - told)
                told = now

    def _row(self, place: int, line: bytes) -> dict[str, Any]:
        if len(line) > LARGEST_ROW:
            raise DataError(f"{self._numbered(place)} is longer than {LARGEST_ROW:,} bytes. Divide the row, or remove it.")
        try:
            row = orjson.loads(line.removeprefix(BYTE_ORDER_MARK) if place == 0 else line)
        except orjson.JSONDecodeError as first:
            row = loaded_leniently(line, f"{self._numbered(place)} is not valid JSON: {first}")
        if not isinstance(row, dict) or not isinstance(row.get(self.column), str):
            raise DataError(
                f"{self._numbered(place)} has no text under {self.column!r}, but {described(row, self.column)}. "
                "Name the right key with --jsonl-keys, or mend the row."
            )
        return row

    def _numbered(self, place: int) -> str:
        """FILE:LINE of the row, counted for the error that names it."""
        with open_expanded(Path(self.file)) as (stream, _):
            lines, left = 1, place
            while left and (data := stream.read(min(left, 2**20))):
                lines += data.count(b"\n")
                left -= len(data)
        return f"{self.file}:{lines}"


def described(row: Any, column: str) -> str:
    """What a row without text holds, in the words of JSON.

    >>> described({"text": None, "id": 1}, "text"), described({"code": "x"}, "text"), described([], "text")
    ('null there', "the keys ['code']", 'an array in place of an object')
    """
    if isinstance(row, dict):
        return f"{json_kind(row[column])} there" if column in row else f"the keys {list(row)[:SHOWN_KEYS]}"
    return f"{json_kind(row)} in place of an object"


def json_kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "true or false", str: "a text", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")


def loaded_leniently(line: bytes, problem: str) -> Any:
    """A row that orjson refuses: the standard library takes NaN and lone surrogates. Raises DataError where it does not."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{problem}. Give JSON Lines, one object a line, plain or compressed (.gz, .zst).") from None


@dataclass(frozen=True)
class ParquetPiece:
    """Some row groups of a Parquet file."""

    file: str
    row_groups: tuple[int, ...]
    first_row: int
    text_column: str
    columns: tuple[str, ...]
    """What tells the language: a column of it, or of paths."""
    num_bytes: int
    key: str

    def texts(self) -> Iterator[Text]:
        number = self.first_row
        try:
            with pq.ParquetFile(self.file, buffer_size=2**20, pre_buffer=False) as file:
                names = [self.text_column, *self.columns]
                chunks = [chunk for index in self.row_groups for chunk in chunks_of(file.metadata.row_group(index), names)]
                for rows in file.iter_batches(rows_at_once(chunks), list(self.row_groups), names, use_threads=False):
                    for row in rows.to_pylist():
                        number += 1
                        text = row[self.text_column]
                        if not isinstance(text, str):
                            raise DataError(f"{self.file}, row {number}, has no text in the column {self.text_column!r}. Mend it.")
                        yield Text(text, language_of(row, self.text_column), self._place(row, number), len(text))
        except (BrokenArchive, pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.file} is damaged or no Parquet file of texts: {error}. Get or build it again.") from None

    def _place(self, row: Mapping[str, Any], number: int) -> str:
        named = "/".join(row[name] for name in ("repository", "path") if isinstance(row.get(name), str))
        return named or f"{self.file}, row {number}"


def language_of(row: dict[str, Any], text_column: str) -> str:
    """What a row says of its language, itself or under `meta` as lm_dataformat's rows do; else what its path and text say."""
    meta = row.get("meta")
    row = meta | row if isinstance(meta, dict) else row
    for name in SPELLINGS["language"]:
        if (value := row.get(name)) and isinstance(value, str):
            return language_named(value) or UNSAFE.sub("_", value)[:LONGEST_LANGUAGE]
    for name in SPELLINGS["path"]:
        if (value := row.get(name)) and isinstance(value, str):
            return detect(value, row[text_column]) or UNKNOWN_LANGUAGE
    return UNKNOWN_LANGUAGE


def corpus_pieces(folder: Path, split: str) -> list[Piece]:
    """A split of a corpus. Raises DataError where the folder is not a corpus or a shard is missing."""
    paths = [folder / shard.file for shard in load_summary(folder).shards if shard.split == split]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing, but {SUMMARY_FILE} lists it. Copy the corpus folder whole, or build it again.")
    return [piece for path in paths for piece in parquet_pieces(path, "text", ("language", "repository", "path"))]


def pieces_of(path: Path, key: str = DEFAULT_KEY, by_content: bool = False) -> list[Piece]:
    """A folder, a Parquet file or a JSON Lines file; a folder that holds Parquet files and nothing else is its files.

    `by_content`: the language of a folder's file is found by its content as well as by its name.
    """
    if path.is_file():
        return one_file(path, key)
    if not path.is_dir():
        wrong = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise DataError(f"{path} {wrong}. Input is JSON Lines, Parquet, and folders, with commas between them.")
    files = list_files(path)
    for reason, number in sorted(files.left_out.items()):
        log.info("%s: %s %s left out", path, f"{number:,}", reason)
    if all(file.suffix == PARQUET_SUFFIX for file in files.paths):
        return [piece for file in files.paths for piece in one_file(file, key)]
    if key != DEFAULT_KEY:
        raise ConfigError(f"--jsonl-keys {key} is for JSON Lines, but {path} is a folder, whose files have no keys. Leave it out.")
    return list(folder_pieces(path, files, by_content))


def folder_pieces(folder: Path, files: FileList, by_content: bool) -> Iterator[Piece]:
    paths: list[str] = []
    digest, num_bytes = hashlib.sha256(), 0
    for index, path in enumerate(files.paths):
        status = path.stat()
        paths.append(path.relative_to(folder).as_posix())
        digest.update(f"{paths[-1]}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        num_bytes += status.st_size
        if num_bytes >= PIECE_BYTES or index == len(files.paths) - 1:
            yield FilesPiece(os.fspath(folder), tuple(paths), by_content, num_bytes, digest.hexdigest())
            paths, digest, num_bytes = [], hashlib.sha256(), 0


def one_file(path: Path, key: str) -> list[Piece]:
    if path.suffix == PARQUET_SUFFIX:
        return parquet_pieces(path, key)
    size, stamp = path.stat().st_size, stamp_of(path)
    if is_compressed(path):
        return [RowsPiece(os.fspath(path), key, 0, None, size, stamp)]
    starts = range(0, size, PIECE_BYTES)
    return [
        RowsPiece(os.fspath(path), key, start, min(start + PIECE_BYTES, size), min(PIECE_BYTES, size - start), f"{stamp} {start}")
        for start in starts
    ]


def parquet_pieces(path: Path, key: str, columns: Sequence[str] | None = None) -> list[Piece]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            sizes = [(group.num_rows, group.total_byte_size) for group in groups]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged or no Parquet file: {error}. Get or build it again.") from None
    spellings = (key, *SPELLINGS["text"]) if key == DEFAULT_KEY else (key,)
    text_column = next((name for name in spellings if name in names), None)
    if text_column is None:
        raise DataError(f"{path} has no column {' or '.join(dict.fromkeys(spellings))}, but {names}. Name it with --jsonl-keys.")
    known = columns or [name for field in ("language", "path") for name in SPELLINGS[field] if name in names]
    pieces: list[Piece] = []
    taken: list[int] = []
    first_row = num_rows = num_bytes = 0
    for index, (rows, size) in enumerate(sizes):
        taken.append(index)
        num_rows, num_bytes = num_rows + rows, num_bytes + size
        if num_bytes >= PIECE_BYTES or index == len(sizes) - 1:
            stamp = f"{stamp_of(path)} {taken}"
            pieces.append(ParquetPiece(os.fspath(path), tuple(taken), first_row, text_column, tuple(known), num_bytes, stamp))
            first_row, num_rows, num_bytes, taken = first_row + num_rows, 0, 0, []
    return pieces


def stamp_of(path: Path) -> str:
    """Path, size and time of a file."""
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"
