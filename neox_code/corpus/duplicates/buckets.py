"""Numbered buckets of records: in memory while there are few records, else in one file per bucket.

buckets = Buckets(folder, dtype, count=256)
buckets.add(records, numbers)                 # arrays of equal length; all calls before the first read
for number in range(256):
    buckets.read(number)                      # the records of a bucket, in the order in which they were added
buckets.remove()
"""

from pathlib import Path

import numpy as np

BUFFERED = 2**20


class Buckets:
    def __init__(self, folder: Path, dtype: np.dtype, count: int):
        self.folder = folder
        self.dtype = dtype
        self.count = count
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_pending = 0
        self._spilled = False
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, records: np.ndarray, numbers: np.ndarray) -> None:
        self._pending.append((records, numbers))
        self._num_pending += len(records)
        if self._num_pending >= BUFFERED:
            self._spill()

    def read(self, number: int) -> np.ndarray:
        if not self._spilled:
            self._sorted = self._sorted or self._sort_pending()
            records, bounds = self._sorted
            return records[bounds[number] : bounds[number + 1]]
        if self._num_pending:
            self._spill()
        path = self._file(number)
        return np.fromfile(path, self.dtype) if path.exists() else np.empty(0, self.dtype)

    def remove(self) -> None:
        for number in range(self.count):
            self._file(number).unlink(missing_ok=True)

    def _spill(self) -> None:
        if not self._spilled:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.remove()  # files of a killed run
            self._spilled = True
        records, bounds = self._sort_pending()
        self._pending, self._num_pending = [], 0
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            with self._file(number).open("ab") as file:
                # numpy's tofile raises no error if the last bytes do not fit on a full disk
                file.write(records[bounds[number] : bounds[number + 1]].data)

    def _sort_pending(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the pending records sorted by bucket, and the bounds of the buckets, shape (count + 1,)."""
        if not self._pending:
            return np.empty(0, self.dtype), np.zeros(self.count + 1, np.int64)
        records, numbers = (np.concatenate(arrays) for arrays in zip(*self._pending, strict=True))
        order = np.argsort(numbers, kind="stable")
        return records[order], np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=self.count))])

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:05d}.records"
