"""Rows as token ids: encoded once, and kept in a cache for later starts.

    rows = load_token_rows(files, config.finetuning, tokenizer, cache)
    rows.get(3, 0, 10)                       # the first ids of row 3
    rows.lengths, rows.projects              # of all rows

A row is stored without the end-of-document token before and after it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from neox_code.config.finetuning import FinetuningConfig
from neox_code.corpus.sources.row_files import BadRow, Row, RowPlace, read_rows
from neox_code.data.index_cache import Arrays, IndexCache
from neox_code.data.indexed_dataset import choose_id_dtype
from neox_code.errors import DataError
from neox_code.files import hash_file
from neox_code.finetuning.row_formats import RowSpan, build_row_converter
from neox_code.finetuning.templates import read_template
from neox_code.logs import format_plural, get_logger, progress
from neox_code.tokenizer.infilling import encode_next
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

ROWS_AT_ONCE = 1000
"""Number of rows that are encoded together."""

REPORTED_ROWS = 10
"""Greatest number of bad rows with a message of their own."""

FORM_KEYS = (
    *("row_format", "row_template", "prompt_column", "completion_column", "text_column", "messages_column", "project_column"),
    *("prefix_column", "middle_column", "suffix_column", "completion_only_loss", "bad_rows"),
)
"""Keys that change the encoded rows."""


@dataclass(frozen=True)
class TokenRows:
    """Encoded rows of some files."""

    files: tuple[Path, ...]
    tokens: NDArray[np.integer]
    """Ids of all rows, one row after the other [tokens]."""
    targets: NDArray[np.bool_]
    """True for each id that enters the loss [tokens]."""
    ends: NDArray[np.int64]
    """Place after the last token of each row [rows]."""
    ends_learned: NDArray[np.bool_]
    """True if the end-of-document token after a row enters the loss [rows]."""
    projects: NDArray[np.uint64]
    """Hash of the project of each row [rows]; of the row itself without a `project_column`."""
    file_numbers: NDArray[np.int32]
    """Index in `files` [rows]."""
    numbers: NDArray[np.int64]
    """Number of the row in its file, from 1 [rows]."""

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.ends, prepend=0)

    def place(self, row: int) -> RowPlace:
        return RowPlace(self.files[self.file_numbers[row]], int(self.numbers[row]))

    def slice(self, row: int, offset: int, length: int) -> slice:
        """Return where some tokens of a row are in `tokens` and `targets`."""
        begin = (int(self.ends[row - 1]) if row else 0) + offset
        return slice(begin, begin + length)

    def hash_rows(self) -> NDArray[np.uint64]:
        """Return a hash of each row's ids [rows]. Rows of equal ids have equal hashes."""
        begins = self.ends - self.lengths
        pairs = zip(begins.tolist(), self.ends.tolist(), strict=True)
        return np.fromiter((xxhash.xxh3_64_intdigest(self.tokens[a:b].tobytes()) for a, b in pairs), np.uint64, len(self))


def load_token_rows(
    files: Sequence[Path], section: FinetuningConfig, tokenizer: Tokenizer, cache: IndexCache
) -> tuple[TokenRows, list[dict[str, Any]]]:
    """Return the encoded rows of the files and the files' identity (path, bytes, SHA-256); encode them if the cache lacks them.

    Raise DataError for bad rows, with a line for each of the first ones, unless `bad_rows` is drop.
    """
    identity = [{"path": str(file), "bytes": file.stat().st_size, "sha256": hash_file(file)} for file in files]
    form = {key: value for key, value in asdict(section).items() if key in FORM_KEYS}
    key = {
        "token rows": 2,
        "files": [file["sha256"] for file in identity],
        "templates": [read_template(name, {}).path.read_text(encoding="utf-8") for name in section.row_template],
        "tokenizer": tokenizer.identity,
        **form,
    }
    arrays = cache.get(key, 1, lambda: encode_files(files, section, tokenizer))
    return TokenRows(tuple(files), **arrays), identity


def encode_files(files: Sequence[Path], section: FinetuningConfig, tokenizer: Tokenizer) -> Arrays:
    """Return the arrays of TokenRows."""
    dtype = choose_id_dtype(tokenizer.vocab_size)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("tokens", "targets", "lengths", "learned", "projects", "places")}
    rows = chain.from_iterable(((number, place, row) for place, row in read_rows(file)) for number, file in enumerate(files))
    convert, bad = build_row_converter(section, tokenizer), BadRows(section.bad_rows == "drop")
    with progress("encoding", None, " rows") as advance:
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            spans: list[list[RowSpan]] = []
            for number, place, row in batch:
                project = read_project(row, section.project_column)
                found = row if isinstance(row, BadRow) else project if isinstance(project, BadRow) else convert(row)
                if isinstance(found, BadRow):
                    bad.add(place, found)
                    continue
                spans += found
                name = f"{number}/{place.number}" if project is None else f"project {project}"
                parts["projects"].append(np.full(len(found), xxhash.xxh3_64_intdigest(name.encode()), np.uint64))
                parts["places"] += [np.array([number, place.number], np.int64)] * len(found)
            for ids, targets in encode_spans(spans, tokenizer):
                parts["tokens"].append(np.array(ids, dtype))
                parts["targets"].append(np.array(targets, np.bool_))
            parts["learned"].append(np.array([row[-1].is_target for row in spans], np.bool_))
            advance(len(batch))
    bad.report()
    if not parts["places"]:
        raise DataError(f"{', '.join(map(str, files))} {'has' if len(files) == 1 else 'have'} no row. Correct the path.")
    places = np.stack(parts["places"])
    return {
        "tokens": np.concatenate(parts["tokens"]),
        "targets": np.concatenate(parts["targets"]),
        "ends": np.cumsum([len(ids) for ids in parts["tokens"]], dtype=np.int64),
        "ends_learned": np.concatenate(parts["learned"]),
        "projects": np.concatenate(parts["projects"]),
        "file_numbers": places[:, 0].astype(np.int32),
        "numbers": places[:, 1],
    }


def read_project(row: Row | BadRow, column: str | None) -> str | BadRow | None:
    """Return the project of a row; None if rows have no column for it."""
    if column is None or isinstance(row, BadRow):
        return None
    return str(row[column]) if row.get(column) is not None else BadRow("has no column", f"{column} (project_column)")


def encode_spans(rows: Sequence[Sequence[RowSpan]], tokenizer: Tokenizer) -> Iterator[tuple[list[int], list[bool]]]:
    """Yield the ids of each row, and True for each id that enters the loss. Each span is encoded on its own.

    A vocabulary that adds a space before a text adds it before the first span alone.
    """
    encoded = iter(tokenizer.encode_batch([span.piece for row in rows for span in row if isinstance(span.piece, str)]))
    bytes_of_id = tokenizer.read_token_bytes()
    adds_space = b"".join(bytes_of_id[token] for token in tokenizer.encode("a")) != b"a"
    for row in rows:
        ids: list[int] = []
        targets: list[bool] = []
        for span in row:
            own = [span.piece] if isinstance(span.piece, int) else next(encoded)
            if adds_space and ids and isinstance(span.piece, str):
                own = encode_next(tokenizer, span.piece)
            ids += own
            targets += [span.is_target] * len(own)
        yield ids, targets


class BadRows:
    """The rows that cannot be used: counted by reason, and reported together."""

    def __init__(self, are_dropped: bool):
        self.are_dropped = are_dropped
        self.first: list[str] = []
        self.counts: Counter[str] = Counter()

    def add(self, place: RowPlace, bad: BadRow) -> None:
        self.counts[bad.reason] += 1
        if len(self.first) < REPORTED_ROWS:
            self.first.append(f"{place} {bad}.")

    def report(self) -> None:
        """Log the number of dropped rows by reason. Raise DataError if bad rows are refused."""
        if not self.counts:
            return
        total = format_plural(self.counts.total(), "row")
        by_reason = ", ".join(f"{reason}: {count:,}" for reason, count in self.counts.most_common())
        if self.are_dropped:
            log.warning("%s left out (bad_rows): %s", total, by_reason)
            return
        remedy = f"{total} cannot be used ({by_reason}). Correct or remove them, or set bad_rows: drop."
        raise DataError("\n".join([*self.first, remedy]))
