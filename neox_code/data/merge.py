"""Joins token files: the documents of all, in the order of the files, with nothing changed in between.

    with DatasetMerger("all_text_document", dtype_of(prefixes)) as merger:
        for prefix in prefixes:
            merger.add_dataset(prefix)

Memory does not grow with the number of files or documents: every file is read twice, a little at a time.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neox_code.data.indexed_dataset import (
    HEADER,
    MAGIC,
    VERSION,
    IndexedDataset,
    IndexedDatasetWriter,
    bin_path,
    idx_path,
    mapped,
    read_header,
)
from neox_code.errors import DataError

CHUNK = 2**20
"""Entries of an index, and sixteenths of a .bin file's bytes, that are in memory at a time."""

Prefix = str | os.PathLike[str]


class DatasetMerger(IndexedDatasetWriter):
    """Writes a pair of files out of whole ones; `add_document` of the base class is not for it."""

    def __init__(self, prefix: Prefix, dtype: np.dtype):
        super().__init__(prefix, dtype)
        self._prefixes: list[Prefix] = []
        self._num_sequences = 0
        self._num_documents = 0

    @property
    def num_documents(self) -> int:
        return self._num_documents

    def add_dataset(self, prefix: Prefix) -> None:
        """Raises DataError where the pair is not whole, is of another type, or is the output."""
        dataset = IndexedDataset(prefix)
        if dataset.dtype != self.dtype:
            raise DataError(
                f"{bin_path(prefix)} has ids of type {dataset.dtype}, expected {self.dtype} as in the others: "
                "they are of another vocabulary. Merge files of one vocabulary."
            )
        if bin_path(prefix).resolve() == bin_path(self.prefix).resolve():
            raise DataError(f"{bin_path(prefix)} is the output as well. Choose another --output-prefix.")
        with bin_path(prefix).open("rb") as source:
            shutil.copyfileobj(source, self._bin, 16 * CHUNK)
        self._prefixes.append(prefix)
        self._num_sequences += len(dataset)
        self._num_documents += len(dataset.document_indices) - 1
        self.num_tokens += int(dataset.sizes.sum(dtype=np.int64))

    def _index(self) -> Iterator[bytes]:
        yield HEADER.pack(MAGIC, VERSION, self._code, self._num_sequences, self._num_documents + 1)
        for dataset in self._datasets():
            yield from chunks(dataset.sizes, "<i4", 0)
        base = 0
        for dataset in self._datasets():
            yield from chunks(dataset.pointers, "<i8", base)
            base += dataset.num_bytes
        yield bytes(8)
        base = 0
        for dataset in self._datasets():
            yield from chunks(dataset.document_indices[1:], "<i8", base)
            base += len(dataset)

    def _datasets(self) -> Iterator[IndexedDataset]:
        """One open at a time."""
        return map(IndexedDataset, self._prefixes)


def chunks(values: NDArray[np.integer], dtype: str, base: int) -> Iterator[bytes]:
    for start in range(0, len(values), CHUNK):
        yield (values[start : start + CHUNK] + base).astype(dtype).tobytes()


def dtype_of(prefixes: Sequence[Prefix]) -> np.dtype:
    """The type of the first's ids."""
    path = idx_path(prefixes[0])
    return read_header(path, mapped(path))[0].newbyteorder("=")


def token_files(inputs: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Prefixes of the pairs that are named (with or without .bin or .idx), or lie in a folder, by name.

    Raises DataError for a folder without any, and for half a pair.
    """
    prefixes = []
    for name in map(Path, inputs):
        if name.is_dir():
            found = sorted(name.glob("*.idx"))
            halves = {path.with_suffix("") for path in found} ^ {path.with_suffix("") for path in name.glob("*.bin")}
            if not found or halves:
                wrong = f"has only one half of the pair {min(halves).name}" if halves else "has no token files (.bin and .idx)"
                raise DataError(f"{name} {wrong}. Name a folder of whole pairs.")
            prefixes += [str(path)[: -len(".idx")] for path in found]
        else:
            prefixes.append(str(name)[:-4] if name.suffix in (".bin", ".idx") else str(name))
    return list(dict.fromkeys(prefixes))
