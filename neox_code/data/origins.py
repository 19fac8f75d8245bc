"""The origin of each document of a token file: PREFIX.origins.parquet beside PREFIX.bin and PREFIX.idx. Imports no torch.

    write_origins(prefix, [Origin("tj/n", "bin/n", "MIT", "Shell", 812)])       # one for each document, after the token file
    origins = open_origins(prefix)                                             # None if there is no valid file
    origins.read([0])                                                          # [Origin(repository="tj/n", ...)]

Row i describes document i. For a corpus the row has the values of the corpus's manifest. The file's metadata has the hash of a
sample of PREFIX.bin, so that the origins of a replaced token file are not read. Token files of other programs, and of versions
before this file, have no origins.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neox_code.data.identity import hash_bin_sample
from neox_code.data.indexed_dataset import IndexedDataset, get_origins_path
from neox_code.files import atomic_file

HASH_KEY = b"bin_sample_sha256"
ROWS_IN_GROUP = 2**16
SCHEMA = pa.schema(
    [
        pa.field("repository", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("license", pa.string()),
        pa.field("language", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)


class Origin(NamedTuple):
    repository: str
    """Name of the project; for inputs without projects, the name of the folder or file that was tokenized."""
    path: str
    """Path in the repository; for a row without a path, its place in the file."""
    license: str | None
    language: str
    bytes: int
    """Size of the document's text in UTF-8."""


def write_origins(prefix: str | os.PathLike[str], origins: Sequence[Origin]) -> None:
    """Write the origins of the documents of a complete token file, in their order."""
    columns = {name: [getattr(origin, name) for origin in origins] for name in SCHEMA.names}
    write_tables(prefix, [pa.table(columns, schema=SCHEMA)])


def merge_origins(inputs: Sequence[str | os.PathLike[str]], prefix: str | os.PathLike[str]) -> bool:
    """Write the origins of token files, in this order, as those of the merged file. Return False if an input has no origins."""
    files = [open_origins(path) for path in inputs]
    if not all(files):
        return False
    write_tables(prefix, (pa.Table.from_batches([batch]) for file in files if file for batch in file.iter_batches()))
    return True


def write_tables(prefix: str | os.PathLike[str], tables: Iterable[pa.Table]) -> None:
    """Write tables with the columns of SCHEMA, in row groups of ROWS_IN_GROUP rows."""
    schema = SCHEMA.with_metadata({HASH_KEY: hash_bin_sample(prefix).encode()})
    with (
        atomic_file(get_origins_path(prefix), "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=["repository", "license", "language"]) as writer,
    ):
        pending: list[pa.Table] = []
        for table in tables:
            pending.append(table)
            if sum(map(len, pending)) >= ROWS_IN_GROUP:
                writer.write_table(pa.concat_tables(pending).cast(schema), ROWS_IN_GROUP)
                pending = []
        if pending:
            writer.write_table(pa.concat_tables(pending).cast(schema), ROWS_IN_GROUP)


def open_origins(prefix: str | os.PathLike[str]) -> "Origins | None":
    """Return the origins of a token file; None if the file is missing or damaged, or the token file was replaced after it."""
    try:
        file = Origins(get_origins_path(prefix))
    except (OSError, pa.ArrowException):
        return None
    metadata = file.file.schema_arrow.metadata or {}
    is_valid = (
        metadata.get(HASH_KEY) == hash_bin_sample(prefix).encode()
        and file.file.metadata.num_rows == IndexedDataset(prefix).counts()["documents"]
        and file.file.schema_arrow.names == SCHEMA.names
    )
    return file if is_valid else None


class Origins:
    """Reader of PREFIX.origins.parquet."""

    def __init__(self, path: Path):
        self.path, self.file = path, pq.ParquetFile(path)
        groups = (self.file.metadata.row_group(number).num_rows for number in range(self.file.num_row_groups))
        self.ends = np.cumsum(list(groups), dtype=np.int64)

    def read(self, documents: Sequence[int]) -> list[Origin]:
        """Return the origins of some documents, in this order. Only their row groups are read, each once."""
        groups = np.searchsorted(self.ends, documents, side="right")
        found: dict[int, Origin] = {}
        for group in sorted(set(groups.tolist())):
            first = int(self.ends[group - 1]) if group else 0
            own = sorted({document for document, place in zip(documents, groups, strict=True) if place == group})
            rows = self.file.read_row_group(group).take([document - first for document in own]).to_pylist()
            found |= {document: Origin(**row) for document, row in zip(own, rows, strict=True)}
        return [found[document] for document in documents]

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        return self.file.iter_batches(ROWS_IN_GROUP)

    def read_column(self, name: str) -> pa.ChunkedArray:
        """Return one column for all documents."""
        return self.file.read([name]).column(0)

    def read_languages(self) -> tuple[list[str], NDArray[np.int64]]:
        """Return the names of the languages, in order, and the index of each document's language."""
        names = self.read_column("language")
        languages = sorted(pc.unique(names).to_pylist())
        return languages, pc.index_in(names, value_set=pa.array(languages)).to_numpy().astype(np.int64)
