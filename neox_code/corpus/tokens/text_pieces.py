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

from neox_code.corpus.linguist.detect import detect, guess_by_name
from neox_code.corpus.shards import SUMMARY_FILE, load_summary
from neox_code.corpus.sources.batches import is_lfs_pointer
from neox_code.corpus.sources.columns import LARGEST_ROW, SPELLINGS, remove_metadata
from neox_code.corpus.sources.compressed import BrokenArchive, Damage, open_expanded, until_damaged
from neox_code.corpus.sources.datasets import dataset_shards
from neox_code.corpus.sources.folder_layout import is_bare_repository
from neox_code.corpus.sources.json_lines import BYTE_ORDER_MARK, is_read_whole, lines_of
from neox_code.corpus.sources.parquet import chunks_of, plain_values, rows_at_once
from neox_code.corpus.sources.source_names import TAR_SUFFIXES, language_named, printable
from neox_code.corpus.tokens.raw_documents import UNKNOWN_LANGUAGE, FileList, list_files
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
MOST_NAMED = 10
"""Documents that cannot be held, of which the places are reported."""
SKIP_REMEDY = "Or leave such documents out with --skip-unencodable."
CONVERT_FILE = "Convert or remove the file, or build a corpus of the folder with tools/build_corpus.py."
ANOTHER_KEY = "Name the right key with --jsonl-keys, or mend the row."
BUILD_FIRST = "Build a corpus of it with tools/build_corpus.py, and name that."
METADATA_STARTS = ("<reponame>", "<filename>", "<gh_stars>")


class Text(NamedTuple):
    text: str
    language: str
    place: str
    """Names it in an error."""
    num_bytes: int
    """Of the input, for the bar."""


class Rejected(NamedTuple):
    """A document that cannot be read."""

    place: str
    """FILE:LINE, or a row of a file."""
    problem: str
    """What is wrong with it, as the rest of a sentence that begins with the place."""
    remedy: str
    num_bytes: int


def rejection(rejected: Rejected) -> DataError:
    return DataError(f"{rejected.place} {rejected.problem}. {rejected.remedy} {SKIP_REMEDY}")


class Piece(Protocol):
    @property
    def num_bytes(self) -> int:
        """Of the input, for the bar."""
        ...

    @property
    def key(self) -> str:
        """Another one where the input is another."""
        ...

    def texts(self) -> Iterator[Text | Rejected]:
        """Yield the texts in their order. Raises DataError for a file that is damaged as a whole."""
        ...


@dataclass(frozen=True)
class FilesPiece:
    """Some files of a folder, each a text."""

    folder: str
    paths: tuple[str, ...]
    """Relative to the folder."""
    match_heuristics: bool
    """Whether a text's language is found by its content, too, which takes as long as reading it."""
    num_bytes: int
    key: str

    def texts(self) -> Iterator[Text | Rejected]:
        folder = Path(self.folder)
        for path in self.paths:
            data = (folder / path).read_bytes()
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                problem = f"is not UTF-8: byte 0x{data[error.start]:02X} at {error.start:,}"
                yield Rejected(f"{self.folder}/{path}", problem, CONVERT_FILE, len(data))
                continue
            language = detect(path, text) if self.match_heuristics else guess_by_name(path)
            yield Text(text, language or UNKNOWN_LANGUAGE, f"{self.folder}/{path}", len(data))


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
    language: str | None = None
    """Of rows that name none and have no path."""

    def texts(self) -> Iterator[Text | Rejected]:
        before, rejected = self.start, 0
        for found in until_damaged(lines_of(Path(self.file), self.start, self.end), Path(self.file)):
            if isinstance(found, Damage):
                raise DataError(f"{self.file} is damaged or breaks off: {found.words}. Get the file again.")
            place, line, position = found
            if not line.isspace():
                now = position if self.end is None else place + len(line)
                row = self._row(place, line)
                if isinstance(row, dict):
                    named = f"{self.file}, the row at byte {place:,}"
                    yield Text(plain_text(row[self.column]), language_of(row, self.column, self.language), named, now - before)
                else:
                    rejected += 1  # lines are counted for those that are named
                    named = self._numbered(place) if rejected <= MOST_NAMED else f"{self.file}, the row at byte {place:,}"
                    yield Rejected(named, *row, now - before)
                before = now

    def _row(self, place: int, line: bytes) -> dict[str, Any] | tuple[str, str]:
        """Return the row, or what is wrong with it and the remedy."""
        if len(line) > LARGEST_ROW:
            return f"is longer than {LARGEST_ROW:,} bytes", "Divide the row, or remove it."
        try:
            row = orjson.loads(line.removeprefix(BYTE_ORDER_MARK) if place == 0 else line)
        except orjson.JSONDecodeError as first:
            try:
                row = json.loads(line)  # takes NaN and lone surrogates
            except (ValueError, RecursionError):
                return f"is not valid JSON: {first}", "Give JSON Lines, one object a line, plain or compressed (.gz, .zst)."
        if not isinstance(row, dict) or not isinstance(row.get(self.column), str):
            return f"has no text under {self.column!r}, but {described(row, self.column)}", ANOTHER_KEY
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


def plain_text(text: str) -> str:
    """Return a text without StarCoderData's metadata at its start."""
    if not text.startswith(METADATA_STARTS):
        return text
    return remove_metadata(text.encode("utf-8", "surrogatepass"))[0].decode("utf-8", "surrogatepass")


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
    language: str | None = None

    def texts(self) -> Iterator[Text | Rejected]:
        number = self.first_row
        try:
            with pq.ParquetFile(self.file, buffer_size=2**20, pre_buffer=False) as file:
                names = [self.text_column, *self.columns]
                chunks = [chunk for index in self.row_groups for chunk in chunks_of(file.metadata.row_group(index), names)]
                for rows in file.iter_batches(rows_at_once(chunks), list(self.row_groups), names, use_threads=False):
                    columns = [plain_values(rows.column(name)) for name in names]
                    for values in zip(*columns, strict=True):
                        number += 1
                        yield self._text(dict(zip(names, values, strict=True)), number)
        except (BrokenArchive, pa.ArrowException, OSError) as error:
            raise DataError(f"{self.file} is damaged or no Parquet file of texts: {error}. Get or build it again.") from None

    def _text(self, row: dict[str, Any], number: int) -> Text | Rejected:
        """Return a row, whose texts are bytes, as a text."""
        value = row.pop(self.text_column)
        row = {name: printable(column) if isinstance(column, bytes) else column for name, column in row.items()}
        if not isinstance(value, bytes):
            found = json_kind(value)
            problem = f"has no text in the column {self.text_column!r}, but {found}"
            return Rejected(f"{self.file}, row {number},", problem, ANOTHER_KEY, 0)
        try:
            text = plain_text(value.decode("utf-8"))
        except UnicodeDecodeError as error:
            problem = f"is not UTF-8: byte 0x{value[error.start]:02X} at {error.start:,} of its text"
            return Rejected(f"{self.file}, row {number},", problem, "Mend the row.", len(value))
        row[self.text_column] = text
        return Text(text, language_of(row, self.text_column, self.language), self._place(row, number), len(value))

    def _place(self, row: Mapping[str, Any], number: int) -> str:
        named = "/".join(row[name] for name in ("repository", "path") if isinstance(row.get(name), str))
        return named or f"{self.file}, row {number}"


def language_of(row: dict[str, Any], text_column: str, default: str | None = None) -> str:
    """Return the language of a row: what it says itself or under `meta`, as lm_dataformat's rows do; else by its path and text.

    Without a path it is `default`.
    """
    meta = row.get("meta")
    row = meta | row if isinstance(meta, dict) else row
    for name in SPELLINGS["language"]:
        if (value := row.get(name)) and isinstance(value, str):
            return language_named(value) or UNSAFE.sub("_", value)[:LONGEST_LANGUAGE]
    for name in SPELLINGS["path"]:
        if (value := row.get(name)) and isinstance(value, str):
            return detect(value, row[text_column]) or UNKNOWN_LANGUAGE
    return default or UNKNOWN_LANGUAGE


def corpus_pieces(folder: Path, split: str) -> list[Piece]:
    """A split of a corpus. Raises DataError where the folder is not a corpus or a shard is missing."""
    paths = [folder / shard.file for shard in load_summary(folder).shards if shard.split == split]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing, but {SUMMARY_FILE} lists it. Copy the corpus folder whole, or build it again.")
    return [piece for path in paths for piece in parquet_pieces(path, "text", ("language", "repository", "path"))]


def pieces_of(path: Path, key: str = DEFAULT_KEY, match_heuristics: bool = False) -> list[Piece]:
    """Return the pieces of a dataset's file or folder (sources/datasets.py) or of a folder of source files.

    `match_heuristics`: the language of a folder's file is found by its content as well as by its name.
    Raises DataError for another input.
    """
    if path.is_file():
        return one_file(path, key)
    if not path.is_dir():
        wrong = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise DataError(f"{path} {wrong}. Input is JSON Lines, Parquet, and folders, with commas between them.")
    if is_bare_repository(path):
        raise DataError(f"{path} is a bare git repository. {BUILD_FIRST}")
    if shards := dataset_shards(path):
        return [piece for file in shards for piece in one_file(file, key)]
    files = list_files(path)
    for reason, number in sorted(files.left_out.items()):
        log.info("%s: %s %s left out", path, f"{number:,}", reason)
    if key != DEFAULT_KEY:
        raise ConfigError(f"--jsonl-keys {key} is for JSON Lines, but {path} is a folder, whose files have no keys. Leave it out.")
    return list(folder_pieces(path, files, match_heuristics))


def folder_pieces(folder: Path, files: FileList, match_heuristics: bool) -> Iterator[Piece]:
    paths: list[str] = []
    digest, num_bytes = hashlib.sha256(), 0
    for index, path in enumerate(files.paths):
        status = path.stat()
        paths.append(path.relative_to(folder).as_posix())
        digest.update(f"{paths[-1]}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        num_bytes += status.st_size
        if num_bytes >= PIECE_BYTES or index == len(files.paths) - 1:
            yield FilesPiece(os.fspath(folder), tuple(paths), match_heuristics, num_bytes, digest.hexdigest())
            paths, digest, num_bytes = [], hashlib.sha256(), 0


def one_file(path: Path, key: str) -> list[Piece]:
    if path.suffix.lower() == PARQUET_SUFFIX:
        return parquet_pieces(path, key)
    if path.name.lower().endswith((*TAR_SUFFIXES, ".zip")):
        raise DataError(f"{path} is an archive. {BUILD_FIRST}")
    if is_lfs_pointer(path):
        raise DataError(f"{path} is a pointer of Git LFS. Get the file itself with git lfs pull.")
    size, stamp, language = path.stat().st_size, stamp_of(path), language_named(path.parent.name)
    if is_read_whole(path):
        return [RowsPiece(os.fspath(path), key, 0, None, size, stamp, language)]
    file, starts = os.fspath(path), range(0, size, PIECE_BYTES)
    sizes = [min(PIECE_BYTES, size - start) for start in starts]
    return [
        RowsPiece(file, key, start, start + part, part, f"{stamp} {start}", language)
        for start, part in zip(starts, sizes, strict=True)
    ]


def parquet_pieces(path: Path, key: str, columns: Sequence[str] | None = None) -> list[Piece]:
    if is_lfs_pointer(path):
        raise DataError(f"{path} is a pointer of Git LFS. Get the file itself with git lfs pull.")
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
    language = language_named(path.parent.name)
    pieces: list[Piece] = []
    taken: list[int] = []
    first_row = num_rows = num_bytes = 0
    for index, (rows, size) in enumerate(sizes):
        taken.append(index)
        num_rows, num_bytes = num_rows + rows, num_bytes + size
        if num_bytes >= PIECE_BYTES or index == len(sizes) - 1:
            stamp = f"{stamp_of(path)} {taken}"
            pieces.append(
                ParquetPiece(
                    os.fspath(path),
                    tuple(taken),
                    first_row,
                    text_column,
                    tuple(known),
                    num_bytes,
                    stamp,
                    language,
                )
            )
            first_row, num_rows, num_bytes, taken = first_row + num_rows, 0, 0, []
    return pieces


def stamp_of(path: Path) -> str:
    """Path, size and time of a file."""
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"
