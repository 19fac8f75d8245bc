"""Make the last pass over all scan results: write manifest.parquet, index.tsv, the counts and the plan of the shards.

    write_index(work, results, projects, drop_reasons, kept_copies, repositories, splits)

A line of the index has PolyCoder's format: `{language}__{organization}__{project}__{path}`, a tab, and the SHA-256 of the file's
original bytes. Slashes in the path are written as `__`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neox_code.corpus.pipeline.decisions import DROP_REASONS_FILE, PlannedShard, save_decisions
from neox_code.corpus.pipeline.drop_duplicates import KeptCopies
from neox_code.corpus.pipeline.drop_reasons import KEPT_CODE, NO_FILE_CODE, DropReasons
from neox_code.corpus.pipeline.project_table import ProjectTable
from neox_code.corpus.pipeline.repositories import Repositories
from neox_code.corpus.pipeline.row_licenses import OWN_FILE, read_license_numbers, read_licenses
from neox_code.corpus.pipeline.scan_results import Block, ScanResults
from neox_code.corpus.pipeline.work_folder import get_decisions_folder, get_output_folder
from neox_code.corpus.shards import INDEX_FILE, MANIFEST_FILE, MANIFEST_SCHEMA, MAX_SHARD_BYTES, SPLITS, Count, open_parquet_writer
from neox_code.files import write_json

LEFT_ASIDE = "left aside"
COUNTS_FILE = "counts.json"
MANIFEST_ROW_GROUP = 100_000
NO_SPLIT = -1
VERSIONS = pa.map_(pa.string(), pa.string())

SHARDS_AIMED_AT = 64
LEAST_SHARD_BYTES = 16 * 10**6
ROW_OVERHEAD = 512
"""Upper bound, in bytes, of the size of a document without its text and path."""

COLUMNS = [
    *("path", "bytes", "is_first", "language", "sha256", "encoding", "newlines", "edits", "text_bytes", "project"),
]


def write_index(
    work: Path,
    results: ScanResults,
    projects: ProjectTable,
    drop_reasons: DropReasons,
    kept_copies: KeptCopies,
    repositories: Repositories,
    splits: Mapping[str, str],
) -> None:
    """Write the manifest, the index and the decisions to the work folder.

    Files of repositories that are not in `splits` are dropped with the reason LEFT_ASIDE.
    """
    folder, out = get_decisions_folder(work), get_output_folder(work)
    out.mkdir(exist_ok=True)
    names = pa.array(repositories.names)
    project_of = np.array(repositories.projects, np.int64)
    split_of = np.array([SPLITS.index(splits[unit]) if unit in splits else NO_SPLIT for unit in repositories.units], np.int8)
    licenses = read_licenses(folder)
    name_kept_copies(results, kept_copies, repositories, names)
    first_of: dict[tuple[str, int], int] = {}
    for number, key in enumerate(zip(repositories.names, repositories.projects, strict=True)):
        first_of.setdefault(key, number)
    named_first = np.array([first_of[key] for key in zip(repositories.names, repositories.projects, strict=True)], np.int64)
    left_aside = drop_reasons.find_code(LEFT_ASIDE)
    counts = Counts()
    shards = ShardPlan(choose_shard_bytes(sum(sum(size.values()) for name, size in repositories.sizes.items() if name in splits)))
    places: list[tuple[int, ...]] = []
    with (
        open_parquet_writer(
            out / MANIFEST_FILE, MANIFEST_SCHEMA, ["repository", "language", "verdict", "license", "license_file"]
        ) as manifest,
        (out / INDEX_FILE).open("w", encoding="utf-8", newline="") as index,
        (folder / DROP_REASONS_FILE).open("wb") as codes_file,
    ):
        writer = ManifestWriter(manifest)
        for block in results.blocks(COLUMNS):
            numbers = repositories.read_numbers(block)
            codes = drop_reasons.codes[block.rows]
            codes[(codes == KEPT_CODE) & (split_of[numbers] == NO_SPLIT)] = left_aside
            codes_file.write(codes.data)
            kept = codes == KEPT_CODE
            splits_of_rows = np.where(kept, split_of[numbers], NO_SPLIT)
            places.append((block.batch, block.row_group, block.first_row, len(block)))
            shards.add(block, splits_of_rows)
            files = np.flatnonzero(codes != NO_FILE_CODE)
            table = block.table
            paths = repositories.paths(block, numbers)
            license = licenses.take(pa.array(read_license_numbers(folder, block.first_row, len(block))))
            rows = pa.table(
                {
                    "repository": names.take(pa.array(numbers)),
                    "path": paths,
                    "language": table["language"],
                    "bytes": table["bytes"],
                    "sha256": table["sha256"],
                    "verdict": pa.array(list(drop_reasons.names)).take(pa.array(codes)),
                    "split": pa.array(SPLITS).take(pa.array(splits_of_rows, mask=splits_of_rows == NO_SPLIT)),
                    "encoding": table["encoding"],
                    "newlines": table["newlines"],
                    "license": license["license"],
                    "license_file": pc.if_else(pc.equal(license["license_file"], OWN_FILE), paths, license["license_file"]),
                    "edits": table["edits"],
                    "duplicate_of": kept_copies.read_names(block),
                },
                schema=MANIFEST_SCHEMA,
            ).take(files)
            writer.add(rows)
            counts.add(block, files, codes, splits_of_rows, named_first[numbers])
            index.write(format_index_lines(block, np.flatnonzero(kept), names.take(pa.array(project_of[numbers]))))
        writer.close()
    write_json(folder / COUNTS_FILE, [asdict(count) for count in counts.make_counts(list(drop_reasons.names))])
    table = pa.table(
        {"name": names, "prefix": pa.array(repositories.prefixes), "split": pa.array(split_of)}
        | {"stars": pa.array([projects.projects[number].stars for number in repositories.projects], pa.int64())}
        | {"versions": pa.array([list(projects.versions(number).items()) for number in repositories.projects], VERSIONS)}
    )
    save_decisions(folder, shards.list_shards(), places, table)


def name_kept_copies(results: ScanResults, kept_copies: KeptCopies, repositories: Repositories, names: pa.Array) -> None:
    """Record the names of the kept copies. The manifest lists them in the rows of dropped duplicates."""
    if not len(kept_copies):
        for _ in range(results.count):
            results.advance()
        return
    for block in results.blocks(["path"]):
        numbers = repositories.read_numbers(block)
        places = pc.binary_join_element_wise(names.take(pa.array(numbers)), repositories.paths(block, numbers), "/")
        kept_copies.add_names(block, places)


def format_index_lines(block: Block, rows: np.ndarray, projects: pa.Array) -> str:
    """Return the index lines of some rows: `rows` (int64) count from the block's first row, `projects` has one for every row."""
    if not len(rows):
        return ""
    chosen = pa.array(rows)
    table = block.table.take(chosen)
    names = pc.replace_substring(projects.take(chosen), "/", "__")
    paths = pc.replace_substring(table["path"], "/", "__")
    for character, escape in (("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        names, paths = pc.replace_substring(names, character, escape), pc.replace_substring(paths, character, escape)
    places = pc.binary_join_element_wise(table["language"], names, paths, "__")
    return "\n".join(pc.binary_join_element_wise(places, table["sha256"], "\t").to_pylist()) + "\n"


def choose_shard_bytes(text_bytes: int) -> int:
    """Return the maximum size of a shard in bytes. It gives SHARDS_AIMED_AT shards, unless they would be too small or too large."""
    return min(max(text_bytes // SHARDS_AIMED_AT, LEAST_SHARD_BYTES), MAX_SHARD_BYTES)


class ShardPlan:
    """Divide the kept rows of every split, in order, into shards of at most `max_bytes` before compression."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._shards: dict[str, list[PlannedShard]] = {split: [] for split in SPLITS}
        self._open: dict[str, list[int]] = {}

    def add(self, block: Block, splits: np.ndarray) -> None:
        text_bytes = block.numbers("text_bytes")
        costs = text_bytes + pc.binary_length(block.table["path"]).to_numpy() + ROW_OVERHEAD
        for split in np.unique(splits[splits != NO_SPLIT]).tolist():
            for index in np.flatnonzero(splits == split).tolist():
                self._add_row(SPLITS[split], block.first_row + index, int(costs[index]), int(text_bytes[index]))

    def _add_row(self, split: str, row: int, cost: int, text_bytes: int) -> None:
        """Add a row to the split's open shard: a list [first row, last row, documents, bytes of text, bytes before compression]."""
        shard = self._open.get(split)
        if shard is not None and shard[4] + cost > self.max_bytes:
            self._close(split)
            shard = None
        if shard is None:
            shard = self._open[split] = [row, row, 0, 0, 0]
        shard[1] = row
        shard[2] += 1
        shard[3] += text_bytes
        shard[4] += cost

    def _close(self, split: str) -> None:
        first, last, documents, text_bytes, _ = self._open.pop(split)
        shards = self._shards[split]
        shards.append(PlannedShard(split, len(shards), first, last + 1, documents, text_bytes))

    def list_shards(self) -> list[PlannedShard]:
        for split in list(self._open):
            self._close(split)
        return [shard for split in sorted(SPLITS) for shard in self._shards[split]]


class ManifestWriter:
    """Write rows in row groups of at least MANIFEST_ROW_GROUP rows."""

    def __init__(self, writer: pa.parquet.ParquetWriter):
        self._writer = writer
        self._pending: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        self._pending.append(rows)
        if sum(map(len, self._pending)) >= MANIFEST_ROW_GROUP:
            self.close()

    def close(self) -> None:
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending).combine_chunks())
        self._pending = []


class Counts:
    """Numbers of files, bytes and repositories by language, drop reason and split."""

    def __init__(self) -> None:
        self._languages: dict[str, int] = {}
        self._sums: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(3, np.int64))
        self._repositories = np.empty(0, np.int64)
        """Distinct pairs of a cell (see `add`) and a repository: cell << 32 | repository (int64)."""
        self._pending: list[np.ndarray] = []
        self._num_pending = 0
        self._encodings: dict[str, int] = {"utf-8 with errors": 0}

    def add(self, block: Block, files: np.ndarray, codes: np.ndarray, splits: np.ndarray, numbers: np.ndarray) -> None:
        """Count the rows `files` of a block.

        `codes` (drop reasons), `splits` and `numbers` (repositories) have one value per row of the block. Rows are counted in
        cells, one for each combination of language, reason and split: language << 20 | reason << 2 | split + 1.
        """
        languages = block.encode("language", self._languages)[files] + 1
        errors = block.encode("encoding", self._encodings)[files] == 0
        cells = (languages << 20) | (codes[files].astype(np.int64) << 2) | (splits[files].astype(np.int64) + 1)
        unique, inverse = np.unique(cells, return_inverse=True)
        sums = np.zeros((len(unique), 3), np.int64)
        np.add.at(sums, inverse, np.stack([np.ones(len(files), np.int64), block.numbers("bytes")[files], errors], axis=1))
        for cell, amounts in zip(unique.tolist(), sums, strict=True):
            self._sums[cell] += amounts
        self._pending.append(np.unique(cells << 32 | numbers[files]))
        self._num_pending += len(self._pending[-1])
        if self._num_pending > len(self._repositories) + 2**16:
            self._join_pending()

    def _join_pending(self) -> None:
        self._repositories = np.unique(np.concatenate([self._repositories, *self._pending]))
        self._pending, self._num_pending = [], 0

    def make_counts(self, reasons: list[str]) -> list[Count]:
        """Return the counts, sorted by language, reason and split. `reasons[code]` is the name of a reason."""
        if not self._sums:
            return []
        self._join_pending()
        cells, repositories = np.unique(self._repositories >> 32, return_counts=True)
        languages = [None, *self._languages]
        counts = [
            Count(
                languages[cell >> 20],
                reasons[(cell >> 2) & 0xFFFF],
                (None, *SPLITS)[cell & 3],
                files=int(self._sums[cell][0]),
                bytes=int(self._sums[cell][1]),
                projects=projects,
                decoding_errors=int(self._sums[cell][2]),
            )
            for cell, projects in zip(cells.tolist(), repositories.tolist(), strict=True)
        ]
        return sorted(counts, key=lambda count: (count.language or "", count.verdict, count.split or ""))
