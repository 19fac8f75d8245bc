"""Files with the decisions about all rows of the scan results. The processes that write the shards read them.

decisions/drop_reasons.u16       for every row 0 if it is kept, else the number of its drop reason
decisions/repositories.i32       the number of every row's repository
decisions/repositories.parquet   name, prefix, stars, versions by folder and split of every repository
decisions/licenses.*             the license of every row: see row_licenses.py
decisions/decisions.json         the shards and the blocks of rows; written last

decisions = load_decisions(work)
shard = decisions.shards[3]
for block in decisions.iter_blocks(shard): ...
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.corpus.pipeline.repositories import NUMBERS_FILE
from neox_code.corpus.pipeline.row_licenses import read_license_numbers, read_licenses
from neox_code.corpus.pipeline.work_folder import get_decisions_folder
from neox_code.corpus.shards import SPLITS
from neox_code.files import read_json, sync_tree, write_json

DECISIONS_FILE = "decisions.json"
DROP_REASONS_FILE = "drop_reasons.u16"
REPOSITORIES_TABLE = "repositories.parquet"


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """Plan of a shard: the kept rows of `split` among the rows from `first_row` to `end_row` (exclusive)."""

    split: str
    number: int
    first_row: int
    end_row: int
    documents: int
    text_bytes: int

    @property
    def name(self) -> str:
        """Path of the shard, relative to the corpus folder."""
        return f"{self.split}/shard-{self.number:05d}.parquet"

    @property
    def rows_file_name(self) -> str:
        return f"rows/{self.split}-{self.number:05d}.jsonl"


@dataclass(frozen=True, slots=True)
class BlockPlace:
    batch: int
    row_group: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class Decisions:
    folder: Path
    shards: tuple[PlannedShard, ...]
    blocks: np.ndarray
    """The blocks of the scan results in order, int64 [N, 4]: the fields of BlockPlace."""
    repositories: pa.Table

    def iter_blocks(self, shard: PlannedShard) -> Iterator[BlockPlace]:
        first = int(np.searchsorted(self.blocks[:, 2], shard.first_row, side="right")) - 1
        for place in self.blocks[first:].tolist():
            if place[2] >= shard.end_row:
                return
            yield BlockPlace(*place)

    def read_kept_rows(self, shard: PlannedShard, place: BlockPlace) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a block that belong to the shard (int64), and the numbers of their repositories (int32).

        Both arrays have the shape [chosen rows]. A row is counted from the first row of the block.
        """
        drop_reasons = np.fromfile(self.folder / DROP_REASONS_FILE, np.uint16, place.rows, offset=2 * place.first_row)
        numbers = np.fromfile(self.folder / NUMBERS_FILE, np.int32, place.rows, offset=4 * place.first_row)
        rows = np.arange(place.first_row, place.first_row + place.rows)
        chosen = (drop_reasons == 0) & (rows >= shard.first_row) & (rows < shard.end_row)
        chosen &= self._splits[numbers] == SPLITS.index(shard.split)
        return np.flatnonzero(chosen), numbers[chosen]

    def read_row_licenses(self, place: BlockPlace, rows: np.ndarray) -> pa.Array:
        """Return the licenses of some rows of a block; `rows` are counted from the first row of the block."""
        numbers = read_license_numbers(self.folder, place.first_row, place.rows)
        return self._licenses.take(pa.array(numbers[rows]))

    @cached_property
    def _licenses(self) -> pa.ChunkedArray:
        return read_licenses(self.folder)["license"]

    @property
    def _splits(self) -> np.ndarray:
        return self.repositories["split"].to_numpy()

    @cached_property
    def prefixes(self) -> list[str]:
        return self.repositories["prefix"].to_pylist()

    @cached_property
    def versions(self) -> list[dict[str, str]]:
        return [dict(pairs) for pairs in self.repositories["versions"].to_pylist()]


def save_decisions(folder: Path, shards: list[PlannedShard], blocks: list[tuple[int, ...]], repositories: pa.Table) -> None:
    pq.write_table(repositories, folder / REPOSITORIES_TABLE)
    sync_tree(folder)
    write_json(folder / DECISIONS_FILE, {"shards": [asdict(shard) for shard in shards], "blocks": blocks})


def load_decisions(work: Path) -> Decisions:
    """Return the decisions that `save_decisions` has written. The result is cached: a process reads the files once."""
    folder = get_decisions_folder(work)
    return read_decisions(folder, (folder / DECISIONS_FILE).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def read_decisions(folder: Path, written_at: int) -> Decisions:
    value = read_json(folder / DECISIONS_FILE, most_bytes=2**50)
    shards = tuple(PlannedShard(**shard) for shard in value["shards"])
    blocks = np.array(value["blocks"], np.int64).reshape(-1, 4)
    return Decisions(folder, shards, blocks, pq.read_table(folder / REPOSITORIES_TABLE).combine_chunks())
