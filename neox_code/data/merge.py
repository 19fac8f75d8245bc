"""Merge token files: the output has the documents of all files, unchanged and in the order of the files.

    with DatasetMerger("all_text_document", dtype_of(prefixes)) as merger:
        for prefix in prefixes:
            merger.add_dataset(prefix)

Memory does not grow with the number of files or documents: every file is read twice, in chunks.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neox_code.data.identity import read_record
from neox_code.data.indexed_dataset import (
    HEADER,
    MAGIC,
    VERSION,
    IndexedDataset,
    IndexedDatasetWriter,
    get_bin_path,
    get_idx_path,
    map_file,
    read_header,
)
from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.comparison import compare_records, name_vocabulary

log = get_logger(__name__)

CHUNK = 2**20
"""Number of index entries, or of ids of a .bin file, that are in memory at a time."""

Prefix = str | os.PathLike[str]


class DatasetMerger(IndexedDatasetWriter):
    """Writer of a token file that copies whole token files with `add_dataset`. Do not call `add_document` of the base class."""

    def __init__(self, prefix: Prefix, dtype: np.dtype):
        super().__init__(prefix, dtype)
        self._prefixes: list[Prefix] = []
        self._tokenizers: list[tuple[str, dict[str, Any] | None]] = []
        self._num_sequences = 0
        self._num_documents = 0

    @property
    def num_documents(self) -> int:
        return self._num_documents

    def add_dataset(self, prefix: Prefix) -> None:
        """Add all documents of a token file. Raise DataError if it is damaged, the output, or of another dtype or vocabulary."""
        dataset = IndexedDataset(prefix)
        if dataset.dtype != self.dtype:
            raise DataError(
                f"{get_bin_path(prefix)} has ids of type {dataset.dtype}, expected {self.dtype} as in the other files. "
                "Merge files of one vocabulary."
            )
        if get_bin_path(prefix).resolve() == get_bin_path(self.prefix).resolve():
            raise DataError(f"{get_bin_path(prefix)} is the output as well. Choose another --output-prefix.")
        self._compare_vocabulary(dataset)
        for start in range(0, len(dataset.ids), CHUNK):
            ids = dataset.ids[start : start + CHUNK]
            self._update_max_id(ids)
            self._bin.write(ids.tobytes())
        self._prefixes.append(prefix)
        self._num_sequences += len(dataset)
        self._num_documents += len(dataset.document_indices) - 1
        self.num_tokens += int(dataset.sizes.sum(dtype=np.int64))

    def _compare_vocabulary(self, dataset: IndexedDataset) -> None:
        """Raise DataError if the recorded vocabulary of the file differs from that of an earlier file."""
        recorded = read_record(dataset).get("tokenizer")
        self._tokenizers.append((str(get_bin_path(dataset.prefix)), recorded))
        first, expected = next(((file, known) for file, known in self._tokenizers if known), (None, None))
        if not recorded or not expected:
            return
        comparison = compare_records(expected, recorded)
        pair = f"{get_bin_path(dataset.prefix)} was made with {name_vocabulary(recorded)}, {first} with {name_vocabulary(expected)}"
        if comparison == "other":
            raise DataError(f"{pair}: the same ids are different tokens. Merge only files of the same vocabulary.")
        if comparison != "same":
            log.warning("%s: %s", pair, "the ids mean the same" if comparison == "same ids" else "it is not known if the ids agree")

    @property
    def tokenizer(self) -> dict[str, Any] | None:
        """The recorded tokenizer of the files; None if one of the files has no recorded tokenizer."""
        known = [recorded for _, recorded in self._tokenizers]
        return known[0] if known and all(known) else None

    def _index(self) -> Iterator[bytes]:
        yield HEADER.pack(MAGIC, VERSION, self._code, self._num_sequences, self._num_documents + 1)
        for dataset in self._datasets():
            yield from split_into_chunks(dataset.sizes, "<i4", 0)
        base = 0
        for dataset in self._datasets():
            yield from split_into_chunks(dataset.pointers, "<i8", base)
            base += dataset.num_bytes
        yield bytes(8)
        base = 0
        for dataset in self._datasets():
            yield from split_into_chunks(dataset.document_indices[1:], "<i8", base)
            base += len(dataset)

    def _datasets(self) -> Iterator[IndexedDataset]:
        """Yield the datasets one after another; only one is open at a time."""
        return map(IndexedDataset, self._prefixes)


def split_into_chunks(values: NDArray[np.integer], dtype: str, base: int) -> Iterator[bytes]:
    for start in range(0, len(values), CHUNK):
        yield (values[start : start + CHUNK] + base).astype(dtype).tobytes()


def read_dtype(prefixes: Sequence[Prefix]) -> np.dtype:
    """Return the type of the ids in the first file."""
    path = get_idx_path(prefixes[0])
    return read_header(path, map_file(path))[0].newbyteorder("=")


def find_token_files(inputs: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the prefixes of token files. Each input is a file, with or without .bin or .idx, or a folder of pairs.

    Raise DataError for a folder without token files and for a pair with one file missing.
    """
    prefixes = []
    for name in map(Path, inputs):
        if name.is_dir():
            found = sorted(name.glob("*.idx"))
            halves = {path.with_suffix("") for path in found} ^ {path.with_suffix("") for path in name.glob("*.bin")}
            if not found or halves:
                wrong = f"has only one half of the pair {min(halves).name}" if halves else "has no token files (.bin and .idx)"
                raise DataError(f"{name} {wrong}. Pass a folder of complete pairs.")
            prefixes += [str(path)[: -len(".idx")] for path in found]
        else:
            prefixes.append(str(name)[:-4] if name.suffix in (".bin", ".idx") else str(name))
    return list(dict.fromkeys(prefixes))
