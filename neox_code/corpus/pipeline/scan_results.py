"""Results of the scan: a Parquet file per batch. A file has one row, or one row for each of its possible languages.

    with ScanResultWriter(path, key_bytes=(32,)) as writer:
        writer.add(ScanRow(...))
    for block in ScanResults(work, num_batches).blocks(["path", "reason"]):
        block.first_row, block.table, block.projects

Rows are numbered across all batches in the order of the plan. The footer of a file lists the projects of its batch; the
column `project` is an index of this list.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.pipeline.work_folder import get_scan_result_path
from neox_code.corpus.sources.protocol import Project
from neox_code.files import partial_path, replace_durably

BLOCK_BYTES = 8 * 2**20
BLOCK_ROWS = 16_384
PROJECTS = b"projects"

COLUMNS = [
    pa.field("project", pa.int32()),
    pa.field("path", pa.string()),
    pa.field("bytes", pa.int64()),
    pa.field("is_first", pa.bool_()),
    pa.field("language", pa.string()),
    pa.field("reason", pa.string()),
    pa.field("sha256", pa.string()),
    pa.field("encoding", pa.string()),
    pa.field("newlines", pa.string()),
    pa.field("edits", pa.list_(pa.string())),
    pa.field("counted", pa.string()),
    pa.field("license", pa.string()),
    pa.field("stated_license", pa.string()),
    pa.field("project_version", pa.string()),
    pa.field("text_bytes", pa.int64()),
    pa.field("text", pa.string()),
]
REPEATED = ["project", "language", "reason", "encoding", "newlines", "counted", "license", "stated_license", "project_version"]


class ScanRow(NamedTuple):
    """The values of a row in the order of COLUMNS, then its duplicate keys."""

    project: int
    path: str
    num_bytes: int
    is_first: bool
    """True for the first row of a file."""
    language: str | None
    """Language of the file, or one of its possible languages; None if it is unknown."""
    reason: str | None
    """The reason why the file is dropped in this language; None if it is kept."""
    sha256: str | None = None
    """The hash of the bytes as found, in hexadecimal."""
    encoding: str | None = None
    newlines: str | None = None
    edits: Sequence[str] | None = None
    counted: str | None = None
    """The language to which the file's bytes are added to find the main language of its project; None: not counted."""
    license: str | None = None
    """The license in the header of the file."""
    stated_license: str | None = None
    """License that this file states for its folder, if it is a license file or manifest: see folder_licenses.py."""
    project_version: str | None = None
    """Version of the project, if this file states it and the recipe makes rows that depend on it."""
    text_bytes: int = 0
    text: str | None = None
    """The edited text; None for a dropped file. If None but `text_bytes` is positive, the text is that of the previous row."""
    keys: Sequence[bytes | None] = ()


def make_scan_schema(key_bytes: Sequence[int]) -> pa.Schema:
    return pa.schema([*COLUMNS, *(pa.field(f"key{number}", pa.binary(size)) for number, size in enumerate(key_bytes))])


class ScanResultWriter:
    """Write the results of a batch in blocks of about 8 MiB. After a `with` block without error the file has its final name."""

    def __init__(self, path: Path, key_bytes: Sequence[int]):
        self.path = path
        self.schema = make_scan_schema(key_bytes)
        self._rows: list[ScanRow] = []
        self._text_bytes = 0
        self._projects: dict[Project, int] = {}

    def __enter__(self) -> "ScanResultWriter":
        self.path.parent.mkdir(exist_ok=True)
        self._sink = pa.OSFile(str(partial_path(self.path)), "wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            self.schema,
            compression="lz4",  # half the time of zstd's fastest; the file exists as long as the build
            use_dictionary=REPEATED,
            write_statistics=False,
            store_schema=False,
        )
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        try:
            if kind is None:
                self._flush()
                self._writer.add_key_value_metadata({PROJECTS: json.dumps([asdict(project) for project in self._projects])})
            self._writer.close()
            self._sink.close()
            if kind is None:
                replace_durably(partial_path(self.path), self.path)
        finally:
            partial_path(self.path).unlink(missing_ok=True)

    def find_number(self, project: Project) -> int:
        return self._projects.setdefault(project, len(self._projects))

    def add(self, row: ScanRow) -> None:
        if row.is_first and (self._text_bytes >= BLOCK_BYTES or len(self._rows) >= BLOCK_ROWS):
            self._flush()
        self._rows.append(row)
        if row.text is not None:
            self._text_bytes += row.text_bytes

    def _flush(self) -> None:
        if not self._rows:
            return
        *columns, keys = zip(*self._rows, strict=True)
        columns += zip(*keys, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self._rows, self._text_bytes = [], 0


@dataclass(slots=True)
class Block:
    """Several columns of consecutive rows."""

    batch: int
    row_group: int
    first_row: int
    table: pa.Table
    projects: Sequence[Project]
    """The projects of the batch, to which the numbers in the column `project` refer."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def rows(self) -> slice:
        return slice(self.first_row, self.first_row + len(self))

    def numbers(self, column: str) -> np.ndarray:
        return self.table[column].to_numpy()

    def values(self, column: str) -> list[Any]:
        return self.table[column].to_pylist()

    def encode(self, column: str, codes: dict[Any, int]) -> np.ndarray:
        """Return the code of each value of a column: int64 [rows], -1 for null. Give new values a code in `codes`."""
        encoded = self.table[column].combine_chunks().dictionary_encode()
        known = [codes.setdefault(value, len(codes)) for value in encoded.dictionary.to_pylist()]
        return np.array([*known, -1], np.int64)[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


@dataclass(frozen=True)
class ScanResults:
    """The results of all batches in a work folder; `advance` is called after each batch is read."""

    work: Path
    count: int
    advance: Callable[[], None] = lambda: None

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Yield all rows, in the order of the plan, with the named columns."""
        first_row = 0
        for batch in range(self.count):
            with pq.ParquetFile(get_scan_result_path(self.work, batch)) as file:
                projects = read_projects_of_file(file)
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(columns), use_threads=False)
                    yield Block(batch, group, first_row, table, projects)
                    first_row += table.num_rows
            self.advance()


def read_projects_of_file(file: pq.ParquetFile) -> list[Project]:
    return [Project(**project) for project in json.loads(file.metadata.metadata[PROJECTS])]
