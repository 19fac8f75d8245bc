"""Drop duplicates, and record for each duplicate which copy is kept.

    kept_copies = drop_duplicates(order, rules, drop_reasons, folder)
    kept_copies.add_names(block, names)                   # for every block in order
    kept_copies.read_names(block)                          # `repository/path` of the kept copy of every duplicate

A duplicate takes 16 bytes of memory, and 70 bytes while duplicates are sorted. The names of kept copies are stored in a file.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from neox_code.corpus.duplicates.protocol import DuplicateRule
from neox_code.corpus.pipeline.drop_reasons import KEPT_CODE, DropReasons
from neox_code.corpus.pipeline.file_order import FileOrder, make_key_array
from neox_code.corpus.pipeline.scan_results import Block


def drop_duplicates(order: FileOrder, rules: Sequence[DuplicateRule], drop_reasons: DropReasons, folder: Path) -> "KeptCopies":
    """Apply each rule, in order, to the rows that the rules before it have kept."""
    kept_copies = KeptCopies(folder)
    order_file = folder / "order.i64"
    for number, rule in enumerate(rules):
        with rule.groups(folder / "keys") as groups, order_file.open("wb") as rows_by_place:
            place = 0
            for ranks, rows, keys in order.read_sorted():
                rows_by_place.write(rows.astype(np.int64).data)
                has_key = keys[number].is_valid().to_numpy(zero_copy_only=False)
                present = np.flatnonzero((drop_reasons.codes[rows] == KEPT_CODE) & has_key)
                groups.add(make_key_array(keys[number].take(pa.array(present)), rule.key_bytes), ranks[present], present + place)
                place += len(rows)
            rows_by_place.flush()
            if place:
                row_at = np.memmap(order_file, np.int64, "r")
                for dropped, stay in groups.duplicates():
                    rows = row_at[dropped]
                    drop_reasons.drop(rows, rule.name)
                    kept_copies.add(rows, row_at[stay])
        order_file.unlink()
        kept_copies.merge_pairs()
    return kept_copies


class KeptCopies:
    def __init__(self, folder: Path):
        self._file = folder / "survivors.arrow"
        self._rows = np.empty(0, np.int64)
        self._survivors = np.empty(0, np.int64)
        self._added: list[tuple[np.ndarray, np.ndarray]] = []
        self._writer: pa.RecordBatchFileWriter | None = None
        self._names: pa.ChunkedArray | None = None

    def add(self, rows: np.ndarray, kept_copies: np.ndarray) -> None:
        self._added.append((rows, kept_copies))

    def merge_pairs(self) -> None:
        """Merge the added pairs.

        The last rule can drop a file F that is the kept copy of other files. The kept copy of F is then recorded for them.
        """
        if not self._added:
            return
        rows, kept_copies = (np.concatenate(arrays) for arrays in zip(*self._added, strict=True))
        self._added = []
        order = np.argsort(rows)
        rows, kept_copies = rows[order], kept_copies[order]
        if len(rows) and len(self._rows):
            found = np.searchsorted(rows, self._survivors).clip(max=len(rows) - 1)
            moved = rows[found] == self._survivors
            self._survivors[moved] = kept_copies[found[moved]]
        merged = np.concatenate([self._rows, rows])
        order = np.argsort(merged)
        self._rows, self._survivors = merged[order], np.concatenate([self._survivors, kept_copies])[order]

    def __len__(self) -> int:
        return len(self._rows)

    def add_names(self, block: Block, names: pa.Array) -> None:
        """Write the names of the block's rows that are kept copies. `names` has the names of all rows of the block."""
        if self._writer is None:
            self._unique, self._index = np.unique(self._survivors, return_inverse=True)
            self._writer = pa.ipc.new_file(str(self._file), pa.schema([("name", pa.string())]))
        first, last = np.searchsorted(self._unique, [block.rows.start, block.rows.stop])
        if last > first:
            chosen = names.take(pa.array(self._unique[first:last] - block.first_row))
            self._writer.write_table(pa.table({"name": chosen}))

    def read_names(self, block: Block) -> pa.Array:
        """Return the name of the kept copy for each row of the block; null for a row that is not a duplicate."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._names = pa.ipc.open_file(pa.memory_map(str(self._file))).read_all()["name"]
        first, last = np.searchsorted(self._rows, [block.rows.start, block.rows.stop])
        if first == last:
            return pa.nulls(len(block), pa.string())
        assert self._names is not None
        places = np.full(len(block), -1, np.int64)
        places[self._rows[first:last] - block.first_row] = self._index[first:last]
        return self._names.take(pa.array(places, mask=places < 0)).combine_chunks()
