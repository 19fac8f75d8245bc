"""A part: what one batch of files gave, as a Parquet file with a row for every file and, where it can be in several languages,
for every such language.

    with PartWriter(path, key_bytes=(32,)) as part:
        part.add(project, PartRow(...))
    for block in Parts(work, num_parts).blocks(["path", "reason"]):
        block.first_row, block.table, block.projects

Rows are numbered through all parts: the order of the plan is the order of everything. The projects of a part stand once in its
footer; a row has their number.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.pipeline.work_folder import part_file
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


class PartRow(NamedTuple):
    """A row, in the order of COLUMNS; then the duplicate keys."""

    project: int
    path: str
    num_bytes: int
    is_first: bool
    """Of the rows of its file."""
    language: str | None
    """That it is in, or can be in."""
    reason: str | None
    """Why it is dropped, in this language; None if it is not."""
    sha256: str | None = None
    """In hexadecimal, of the bytes as found."""
    encoding: str | None = None
    newlines: str | None = None
    edits: Sequence[str] | None = None
    counted: str | None = None
    """The language for which its bytes count when its project's majority is found."""
    license: str | None = None
    """What the file itself says."""
    stated_license: str | None = None
    """What it states for its folder, as a license file or a manifest: see folder_licenses.py."""
    project_version: str | None = None
    """What it says of its project, where rows are made that want to know."""
    text_bytes: int = 0
    text: str | None = None
    """As it is to be kept; None if dropped, or if it is that of the row before (`text_bytes` tells)."""
    keys: Sequence[bytes | None] = ()


def part_schema(key_bytes: Sequence[int]) -> pa.Schema:
    return pa.schema([*COLUMNS, *(pa.field(f"key{number}", pa.binary(size)) for number, size in enumerate(key_bytes))])


class PartWriter:
    """Writes a part in blocks of about 8 MiB; it takes its name when the `with` block ends well."""

    def __init__(self, path: Path, key_bytes: Sequence[int]):
        self.path = path
        self.schema = part_schema(key_bytes)
        self._rows: list[PartRow] = []
        self._text_bytes = 0
        self._projects: dict[Project, int] = {}

    def __enter__(self) -> "PartWriter":
        self.path.parent.mkdir(exist_ok=True)
        self._sink = pa.OSFile(str(partial_path(self.path)), "wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            self.schema,
            compression="lz4",  # half the time of zstd's fastest; a part lives as long as the build
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

    def number_of(self, project: Project) -> int:
        return self._projects.setdefault(project, len(self._projects))

    def add(self, row: PartRow) -> None:
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
    """Some columns of consecutive rows."""

    part: int
    row_group: int
    first_row: int
    table: pa.Table
    projects: Sequence[Project]
    """Of the part, which the column `project` numbers."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def rows(self) -> slice:
        return slice(self.first_row, self.first_row + len(self))

    def numbers(self, column: str) -> np.ndarray:
        return self.table[column].to_numpy()

    def values(self, column: str) -> list[Any]:
        return self.table[column].to_pylist()

    def coded(self, column: str, codes: dict[Any, int]) -> np.ndarray:
        """The column as numbers of `codes`, which grows; an absent value is -1."""
        encoded = self.table[column].combine_chunks().dictionary_encode()
        known = [codes.setdefault(value, len(codes)) for value in encoded.dictionary.to_pylist()]
        return np.array([*known, -1], np.int64)[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


@dataclass(frozen=True)
class Parts:
    """All parts of a work folder; `advance` is called for each that was gone through."""

    work: Path
    count: int
    advance: Callable[[], None] = lambda: None

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        first_row = 0
        for part in range(self.count):
            with pq.ParquetFile(part_file(self.work, part)) as file:
                projects = projects_of(file)
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(columns), use_threads=False)
                    yield Block(part, group, first_row, table, projects)
                    first_row += table.num_rows
            self.advance()


def projects_of(file: pq.ParquetFile) -> list[Project]:
    return [Project(**project) for project in json.loads(file.metadata.metadata[PROJECTS])]
