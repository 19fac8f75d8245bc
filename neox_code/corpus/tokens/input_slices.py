"""Divide the input of the tokenizer into slices, which different processes can read.

    for input_slice in slice_input(Path("code.jsonl.zst"), key="text"):
        for text in input_slice.read_texts():
            print(text.place, text.language, len(text.text))

The input is a corpus, a folder, a Parquet file or a JSON Lines file. A slice describes about SLICE_BYTES of input: a range of rows
of a file, some files of a folder, or a whole compressed file. The object itself is small and can be pickled. Its `key` changes when
the input changes. No document is filtered out.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.linguist.detect import detect, guess_by_name
from neox_code.corpus.shards import list_shard_files
from neox_code.corpus.sources.batches import is_lfs_pointer
from neox_code.corpus.sources.columns import LARGEST_ROW, SPELLINGS, join_license_values, read_name, remove_metadata
from neox_code.corpus.sources.compressed import BrokenArchive, Damage, open_decompressed, yield_with_damage
from neox_code.corpus.sources.datasets import find_shards
from neox_code.corpus.sources.folder_layout import is_bare_repository
from neox_code.corpus.sources.json_lines import BYTE_ORDER_MARK, must_read_whole, read_lines
from neox_code.corpus.sources.parquet import choose_rows_at_once, find_column_chunks, read_plain_values
from neox_code.corpus.sources.source_names import TAR_SUFFIXES, find_language, make_printable
from neox_code.corpus.tokens.raw_documents import UNKNOWN_LANGUAGE, FileList, list_files
from neox_code.errors import ConfigError, DataError
from neox_code.logs import get_logger

log = get_logger(__name__)

SLICE_BYTES = 32 * 2**20
PARQUET_SUFFIX = ".parquet"
MAX_LISTED_KEYS = 8
MAX_LANGUAGE_LENGTH = 64
UNSAFE_CHARACTERS = re.compile(r"[^\w .+#*-]")
"""Characters that are replaced in the name of a language, because the name becomes part of a file name."""
DEFAULT_KEY = "text"
CORPUS_COLUMNS = ("language", "repository", "path", "license")
"""Columns of a corpus that are read with the text; also the fields that are read from other datasets, by their usual names."""
MAX_LISTED = 10
"""Maximum number of skipped documents that are listed in the log."""
SKIP_REMEDY = "Or leave such documents out with --skip-unencodable."
CONVERT_FILE = "Convert or remove the file, or build a corpus from the folder with tools/build_corpus.py."
CHOOSE_KEY = "Name the right key with --jsonl-keys, or correct the row."
BUILD_FIRST = "Build a corpus from it with tools/build_corpus.py and give the corpus folder as the input."
METADATA_STARTS = ("<reponame>", "<filename>", "<gh_stars>")


class Text(NamedTuple):
    text: str
    language: str
    place: str
    """Location of the text in the input, for error messages."""
    num_bytes: int
    """Bytes of the input that were read for the text, for the progress bar."""
    repository: str
    path: str
    license: str | None = None


class Rejected(NamedTuple):
    place: str
    """Location of the rejected text for error messages: FILE:LINE, or a file and the number of its row."""
    problem: str
    """Description of the problem, such as "is not UTF-8". A message consists of `place`, `problem` and `remedy`."""
    remedy: str
    num_bytes: int


def make_rejection_error(rejected: Rejected) -> DataError:
    return DataError(f"{rejected.place} {rejected.problem}. {rejected.remedy} {SKIP_REMEDY}")


class InputSlice(Protocol):
    @property
    def num_bytes(self) -> int:
        """Bytes of the input in the slice, for the progress bar."""
        ...

    @property
    def key(self) -> str:
        """Text that identifies the slice's input. It changes when the input changes."""
        ...

    def read_texts(self) -> Iterator[Text | Rejected]:
        """Yield the texts in their order. Raise DataError if the file is damaged."""
        ...


@dataclass(frozen=True)
class FilesSlice:
    """Some files of a folder. Each file is one text."""

    folder: str
    paths: tuple[str, ...]
    """Paths relative to the folder."""
    by_content: bool
    """Detect the language of a file from its name and its content. This doubles the time that reading takes."""
    num_bytes: int
    key: str

    def read_texts(self) -> Iterator[Text | Rejected]:
        """Yield one Text for each file; a Rejected for a file that is not UTF-8."""
        folder = Path(self.folder)
        for path in self.paths:
            data = (folder / path).read_bytes()
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                problem = f"is not UTF-8: byte 0x{data[error.start]:02X} at {error.start:,}"
                yield Rejected(f"{self.folder}/{path}", problem, CONVERT_FILE, len(data))
                continue
            language = detect(path, text) if self.by_content else guess_by_name(path)
            name = make_printable(folder.resolve().name)
            yield Text(text, language or UNKNOWN_LANGUAGE, f"{self.folder}/{path}", len(data), name, make_printable(path))


@dataclass(frozen=True)
class RowsSlice:
    """The rows of a JSON Lines file that begin within a byte range of the file."""

    file: str
    column: str
    start: int
    end: int | None
    """End of the byte range; None if the slice is the whole file, which may be compressed."""
    num_bytes: int
    key: str
    language: str | None = None
    """Language of the rows that have neither a language nor a path."""

    def read_texts(self) -> Iterator[Text | Rejected]:
        """Yield one Text for each row that is not empty; a Rejected for a row without text.

        Raise DataError if a compressed file is damaged or truncated.
        """
        before, rejected = self.start, 0
        for found in yield_with_damage(read_lines(Path(self.file), self.start, self.end), Path(self.file)):
            if isinstance(found, Damage):
                raise DataError(f"{self.file} is damaged or truncated: {found.words}. Get the file again.")
            place, line, position = found
            if not line.isspace():
                now = position if self.end is None else place + len(line)
                row = self._parse_row(place, line)
                if isinstance(row, dict):
                    language = find_row_language(row, self.column, self.language)
                    named = f"{self.file}, the row at byte {place:,}"
                    origin = find_row_origin(row, Path(self.file).name, f"byte {place:,}")
                    yield Text(remove_metadata_prefix(row[self.column]), language, named, now - before, *origin)
                else:
                    rejected += 1  # counting lines is slow: only the rows that are listed get a line number
                    named = self._find_line(place) if rejected <= MAX_LISTED else f"{self.file}, the row at byte {place:,}"
                    yield Rejected(named, *row, now - before)
                before = now

    def _parse_row(self, place: int, line: bytes) -> dict[str, Any] | tuple[str, str]:
        """Return the row, or a description of the problem and its remedy."""
        if len(line) > LARGEST_ROW:
            return f"is longer than {LARGEST_ROW:,} bytes", "Divide the row or remove it."
        try:
            row = orjson.loads(line.removeprefix(BYTE_ORDER_MARK) if place == 0 else line)
        except orjson.JSONDecodeError as first:
            try:
                row = json.loads(line)  # accepts NaN and lone surrogates, unlike orjson
            except (ValueError, RecursionError):
                return f"is not valid JSON: {first}", "Write JSON Lines: one JSON object per line, plain or compressed (.gz, .zst)."
        if not isinstance(row, dict) or not isinstance(row.get(self.column), str):
            return f"has no text under {self.column!r}; found: {describe_row(row, self.column)}", CHOOSE_KEY
        return row

    def _find_line(self, place: int) -> str:
        """Return FILE:LINE of the row that begins at byte `place`."""
        with open_decompressed(Path(self.file)) as (stream, _):
            lines, left = 1, place
            while left and (data := stream.read(min(left, 2**20))):
                lines += data.count(b"\n")
                left -= len(data)
        return f"{self.file}:{lines}"


def describe_row(row: Any, column: str) -> str:
    """Return a description of what a row has instead of a text in the column, for an error message.

    >>> describe_row({"text": None, "id": 1}, "text"), describe_row({"code": "x"}, "text"), describe_row([], "text")
    ('null', "the keys ['code']", 'an array, not an object')
    """
    if isinstance(row, dict):
        return name_json_type(row[column]) if column in row else f"the keys {list(row)[:MAX_LISTED_KEYS]}"
    return f"{name_json_type(row)}, not an object"


def name_json_type(value: Any) -> str:
    kinds = {type(None): "null", bool: "true or false", str: "a string", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")


def remove_metadata_prefix(text: str) -> str:
    """Return the text without the metadata that StarCoderData puts at its start."""
    if not text.startswith(METADATA_STARTS):
        return text
    return remove_metadata(text.encode("utf-8", "surrogatepass"))[0].decode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class ParquetSlice:
    file: str
    row_groups: tuple[int, ...]
    first_row: int
    text_column: str
    columns: tuple[str, ...]
    """Columns from which the language and the origin are read."""
    num_bytes: int
    key: str
    language: str | None = None

    def read_texts(self) -> Iterator[Text | Rejected]:
        """Yield one Text for each row; a Rejected for a row without text. Raise DataError if the file is damaged."""
        number = self.first_row
        try:
            with pq.ParquetFile(self.file, buffer_size=2**20, pre_buffer=False) as file:
                names = [self.text_column, *self.columns]
                chunks = [chunk for index in self.row_groups for chunk in find_column_chunks(file.metadata.row_group(index), names)]
                for rows in file.iter_batches(choose_rows_at_once(chunks), list(self.row_groups), names, use_threads=False):
                    columns = [read_plain_values(rows.column(name)) for name in names]
                    for values in zip(*columns, strict=True):
                        number += 1
                        yield self._convert_row(dict(zip(names, values, strict=True)), number)
        except (BrokenArchive, pa.ArrowException, OSError) as error:
            raise DataError(f"{self.file} is damaged or not a Parquet file: {error}. Get it again or rebuild it.") from None

    def _convert_row(self, row: dict[str, Any], number: int) -> Text | Rejected:
        """Return the text of a row, which has strings as UTF-8 bytes."""
        value = row.pop(self.text_column)
        row = {name: make_printable(column) if isinstance(column, bytes) else column for name, column in row.items()}
        if not isinstance(value, bytes):
            problem = f"has no text in the column {self.text_column!r}; found: {name_json_type(value)}"
            return Rejected(f"{self.file}, row {number},", problem, CHOOSE_KEY, 0)
        try:
            text = remove_metadata_prefix(value.decode("utf-8"))
        except UnicodeDecodeError as error:
            problem = f"is not UTF-8: byte 0x{value[error.start]:02X} at {error.start:,} of its text"
            return Rejected(f"{self.file}, row {number},", problem, "Correct the row.", len(value))
        row[self.text_column] = text
        named = "/".join(row[name] for name in ("repository", "path") if isinstance(row.get(name), str))
        place = named or f"{self.file}, row {number}"
        origin = find_row_origin(row, Path(self.file).name, f"row {number:,}")
        return Text(text, find_row_language(row, self.text_column, self.language), place, len(value), *origin)


def find_row_origin(row: dict[str, Any], file: str, place: str) -> tuple[str, str, str | None]:
    """Return repository, path and license of a row by the usual names, else the name of its file, its place in it, and None."""
    meta = row.get("meta")
    row = meta | row if isinstance(meta, dict) else row
    values = {
        field: next((row[name] for name in SPELLINGS[field] if row.get(name)), None) for field in ("repository", "path", "license")
    }
    return read_name(values["repository"]) or file, read_name(values["path"]) or place, join_license_values(values["license"])


def find_row_language(row: dict[str, Any], text_column: str, default: str | None = None) -> str:
    """Return the language that a row states, in the row or in its object `meta` (as in files of lm_dataformat).

    If the row states no language, detect it from the row's path and text. If the row has no path either, return `default`.
    """
    meta = row.get("meta")
    row = meta | row if isinstance(meta, dict) else row
    for name in SPELLINGS["language"]:
        if (value := row.get(name)) and isinstance(value, str):
            return find_language(value) or UNSAFE_CHARACTERS.sub("_", value)[:MAX_LANGUAGE_LENGTH]
    for name in SPELLINGS["path"]:
        if (value := row.get(name)) and isinstance(value, str):
            return detect(value, row[text_column]) or UNKNOWN_LANGUAGE
    return default or UNKNOWN_LANGUAGE


def slice_corpus(folder: Path, split: str) -> list[InputSlice]:
    """Return the slices of a split of a corpus. Raise DataError if the folder is not a corpus or a shard is missing."""
    paths = list_shard_files(folder, split)
    return [input_slice for path in paths for input_slice in slice_parquet_file(path, "text", CORPUS_COLUMNS)]


def slice_input(path: Path, key: str = DEFAULT_KEY, by_content: bool = False) -> list[InputSlice]:
    """Return the slices of an input: a dataset file, a dataset folder (sources/datasets.py) or a folder of source files.

    `by_content`: detect the language of a source file from its content and its name, not from its name alone.
    `key` is the key or column of the texts. Raise DataError for any other input.
    """
    if path.is_file():
        return slice_file(path, key)
    if not path.is_dir():
        wrong = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise DataError(f"{path} {wrong}. Expected: JSON Lines files, Parquet files and folders, separated by commas.")
    if is_bare_repository(path):
        raise DataError(f"{path} is a bare git repository. {BUILD_FIRST}")
    if shards := find_shards(path):
        return [input_slice for file in shards for input_slice in slice_file(file, key)]
    files = list_files(path)
    for reason, number in sorted(files.left_out.items()):
        log.info("%s: %s left out: %s", path, reason, f"{number:,}")
    if key != DEFAULT_KEY:
        raise ConfigError(
            f"--jsonl-keys {key} is for JSON Lines, but {path} is a folder of source files, which have no keys. Remove the option."
        )
    return list(slice_folder(path, files, by_content))


def slice_folder(folder: Path, files: FileList, by_content: bool) -> Iterator[InputSlice]:
    """Yield slices of a folder's files, each of at least SLICE_BYTES; the last may be smaller."""
    paths: list[str] = []
    digest, num_bytes = hashlib.sha256(), 0
    for index, path in enumerate(files.paths):
        status = path.stat()
        paths.append(path.relative_to(folder).as_posix())
        digest.update(f"{paths[-1]}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        num_bytes += status.st_size
        if num_bytes >= SLICE_BYTES or index == len(files.paths) - 1:
            yield FilesSlice(os.fspath(folder), tuple(paths), by_content, num_bytes, digest.hexdigest())
            paths, digest, num_bytes = [], hashlib.sha256(), 0


def slice_file(path: Path, key: str) -> list[InputSlice]:
    """Return the slices of a Parquet or JSON Lines file. Raise DataError for an archive or a pointer of Git LFS."""
    if path.suffix.lower() == PARQUET_SUFFIX:
        return slice_parquet_file(path, key)
    if path.name.lower().endswith((*TAR_SUFFIXES, ".zip")):
        raise DataError(f"{path} is an archive. {BUILD_FIRST}")
    if is_lfs_pointer(path):
        raise DataError(f"{path} is a Git LFS pointer. Get the file itself with git lfs pull.")
    size, stamp, language = path.stat().st_size, format_stamp(path), find_language(path.parent.name)
    if must_read_whole(path):
        return [RowsSlice(os.fspath(path), key, 0, None, size, stamp, language)]
    file, starts = os.fspath(path), range(0, size, SLICE_BYTES)
    sizes = [min(SLICE_BYTES, size - start) for start in starts]
    return [
        RowsSlice(file, key, start, start + part, part, f"{stamp} {start}", language)
        for start, part in zip(starts, sizes, strict=True)
    ]


def slice_parquet_file(path: Path, key: str, columns: Sequence[str] | None = None) -> list[InputSlice]:
    """Return the slices of a Parquet file. A slice is a number of row groups of at least SLICE_BYTES; the last may be smaller.

    `columns` are the columns from which language and origin are read; by default all columns of the file that are known for this.
    Raise DataError if the file cannot be read or has no text column.
    """
    if is_lfs_pointer(path):
        raise DataError(f"{path} is a Git LFS pointer. Get the file itself with git lfs pull.")
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            sizes = [(group.num_rows, group.total_byte_size) for group in groups]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged or not a Parquet file: {error}. Get the file again or rebuild it.") from None
    spellings = (key, *SPELLINGS["text"]) if key == DEFAULT_KEY else (key,)
    text_column = next((name for name in spellings if name in names), None)
    if text_column is None:
        expected = " or ".join(dict.fromkeys(spellings))
        raise DataError(f"{path} has no column {expected}. Its columns: {names}. Choose one with --jsonl-keys.")
    known = columns or [name for field in CORPUS_COLUMNS for name in SPELLINGS[field] if name in names and name != text_column]
    language = find_language(path.parent.name)
    slices: list[InputSlice] = []
    taken: list[int] = []
    first_row = num_rows = num_bytes = 0
    for index, (rows, size) in enumerate(sizes):
        taken.append(index)
        num_rows, num_bytes = num_rows + rows, num_bytes + size
        if num_bytes >= SLICE_BYTES or index == len(sizes) - 1:
            stamp = f"{format_stamp(path)} {taken}"
            slices.append(
                ParquetSlice(
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
    return slices


def format_stamp(path: Path) -> str:
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"
