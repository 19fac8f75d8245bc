"""Figures of the manifest, counted in one pass over batches of its rows.

figures = read_manifest_figures("corpus")
figures.files.group_by("language")["C"].bytes, figures.examples.get_rows("exact duplicate")[0].survivor
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neox_code.corpus.description.amounts import Amounts
from neox_code.corpus.description.seeded_sample import SeededSample, hash_rows
from neox_code.corpus.description.sizes import Sizes
from neox_code.corpus.pipeline.index import LEFT_ASIDE
from neox_code.corpus.shards import KEPT, MANIFEST_FILE, MANIFEST_SCHEMA
from neox_code.errors import DataError
from neox_code.logs import progress

BATCH_ROWS = 2**16
NUM_EXAMPLES = 3
OUTCOMES = (KEPT, LEFT_ASIDE, "duplicate", "dropped")
"""The outcomes of a file. "dropped" stands for every drop reason except the reasons for duplicates."""


@dataclass(frozen=True, slots=True)
class Example:
    place: str
    """REPOSITORY/PATH of the file."""
    language: str | None
    num_bytes: int
    survivor: str | None
    """Place of the copy that was kept instead of this file; None if the file is not a duplicate."""


@dataclass
class ManifestFigures:
    """Figures of a manifest. Their size does not depend on the number of files; a repository takes about 400 bytes."""

    files: Amounts = field(default_factory=lambda: Amounts("language", "verdict", "split", "encoding", "newlines"))
    licenses: Amounts = field(default_factory=lambda: Amounts("license", "verdict"))
    repositories: Amounts = field(default_factory=lambda: Amounts("repository", "split", most=10**8))
    """Amounts of the kept files."""
    edits: Amounts = field(default_factory=lambda: Amounts("edit", "outcome"))
    """Amounts of files by edit. A file is counted once for each of its edits."""
    duplicates: Amounts = field(default_factory=lambda: Amounts("verdict", "is_own"))
    """Amounts of duplicates. `is_own` is True if the kept copy is in the same repository as the duplicate."""
    sizes: Sizes = field(default_factory=Sizes)
    """Histograms of file sizes by (language, outcome)."""
    examples: SeededSample = field(default_factory=lambda: SeededSample(NUM_EXAMPLES))
    """Example files for each drop reason."""
    edited: SeededSample = field(default_factory=lambda: SeededSample(NUM_EXAMPLES))
    """Example files for each edit."""
    num_rows: int = 0

    @property
    def num_repositories(self) -> int:
        """Number of repositories with kept files."""
        return len(self.repositories.group_by("repository"))

    def add(self, rows: pa.Table) -> None:
        """Add rows of the manifest, with the columns MANIFEST_COLUMNS."""
        hashes = hash_rows(self.num_rows, len(rows))
        self.num_rows += len(rows)
        is_kept = pc.equal(rows["verdict"], KEPT)
        is_duplicate = rows["duplicate_of"].is_valid()
        outcome = pc.if_else(
            is_duplicate,
            "duplicate",
            pc.if_else(is_kept, KEPT, pc.if_else(pc.equal(rows["verdict"], LEFT_ASIDE), LEFT_ASIDE, "dropped")),
        )
        self.files.add(rows.select(["language", "verdict", "split", "encoding", "newlines", "bytes"]))
        self.licenses.add(rows.select(["license", "verdict", "bytes"]))
        self.repositories.add(rows.filter(is_kept).select(["repository", "split", "bytes"]))
        self._add_duplicates(rows.filter(is_duplicate))
        self._add_edits(rows, outcome, hashes)
        self._add_sizes(rows, outcome)
        reasons = pc.if_else(is_kept, None, rows["verdict"]).to_numpy(zero_copy_only=False)
        self.examples.add(reasons, hashes, lambda index: make_example(rows, index))

    def _add_duplicates(self, rows: pa.Table) -> None:
        survivors = zip(rows["repository"].to_pylist(), rows["duplicate_of"].to_pylist(), strict=True)
        is_own = pa.array([survivor.startswith(f"{repository}/") for repository, survivor in survivors], pa.bool_())
        self.duplicates.add(pa.table({"verdict": rows["verdict"], "is_own": is_own, "bytes": rows["bytes"]}))

    def _add_edits(self, rows: pa.Table, outcome: pa.ChunkedArray, hashes: np.ndarray) -> None:
        edits = rows["edits"].combine_chunks()
        parents = pc.list_parent_indices(edits)
        if not len(parents):
            return
        names, outcomes = pc.list_flatten(edits), outcome.take(parents)
        self.edits.add(pa.table({"edit": names, "outcome": outcomes, "bytes": rows["bytes"].take(parents)}))
        files = parents.to_numpy()
        kept = pc.if_else(pc.equal(outcomes, KEPT), names, None).to_numpy(zero_copy_only=False)
        self.edited.add(kept, hashes[files], lambda index: make_example(rows, int(files[index])))

    def _add_sizes(self, rows: pa.Table, outcome: pa.ChunkedArray) -> None:
        sizes = rows["bytes"].to_numpy()
        groups = pa.table({"language": rows["language"], "outcome": outcome, "row": pa.array(np.arange(len(rows)))})
        grouped = groups.group_by(["language", "outcome"], use_threads=False).aggregate([("row", "list")])
        for group in range(len(grouped)):
            key = (grouped["language"][group].as_py(), grouped["outcome"][group].as_py())
            self.sizes.add(key, sizes[grouped["row_list"][group].values.to_numpy()])


def make_example(rows: pa.Table, index: int) -> Example:
    row = {name: rows[name][index].as_py() for name in ("repository", "path", "language", "bytes", "duplicate_of")}
    return Example(f"{row['repository']}/{row['path']}", row["language"], row["bytes"], row["duplicate_of"])


def read_manifest_figures(folder: str | os.PathLike[str], num_files: int | None = None) -> ManifestFigures:
    """Return the figures of a corpus folder's manifest; `num_files` is the total of the progress bar.

    Raise DataError if the manifest is missing or damaged.
    """
    figures = ManifestFigures()
    with progress("manifest", num_files, " files") as advance:
        for rows in read_batches(Path(folder) / MANIFEST_FILE, MANIFEST_COLUMNS):
            figures.add(rows)
            advance(len(rows))
    return figures


MANIFEST_COLUMNS = [name for name in MANIFEST_SCHEMA.names if name != "sha256"]


def read_batches(path: Path, columns: list[str], batch_rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file of a corpus in tables of at most `batch_rows`."""
    if not path.is_file():
        raise DataError(f"{path} is missing. Copy the corpus folder whole, or build the corpus again.")
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            if missing := set(columns).difference(file.schema_arrow.names):
                raise pa.ArrowInvalid(f"it has no column {', '.join(sorted(missing))}")
            for batch in file.iter_batches(batch_rows, columns=columns, use_threads=False):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged or not part of a corpus: {str(error).rstrip('.')}. Build the corpus again.") from None
