"""Token files in the format of Megatron and GPT-NeoX: a pair of PREFIX.bin (the ids) and PREFIX.idx (the place of each sequence).

    with IndexedDatasetWriter("train_text_document", choose_id_dtype(vocab_size)) as writer:
        writer.add_document([5, 6, 7])
    dataset = IndexedDataset("train_text_document")
    dataset[0], dataset.get(0, offset=1, length=1), dataset.sizes

PREFIX.bin holds the sequences' ids one after the other, little-endian, without any separator. PREFIX.idx, little-endian:

    offset     type         content
    0          9 bytes      "MMIDIDX\\0\\0"
    9          uint64       version, 1
    17         uint8        type of an id: 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 8 uint16
    18         uint64       N, number of sequences
    26         uint64       M, length of the document index
    34         int32 x N    length of each sequence, in tokens
    34 +  4N   int64 x N    where each sequence begins in PREFIX.bin, in bytes
    34 + 12N   int64 x M    document index: the first sequence of each document, and N at the end

This project writes one sequence for each document, so the document index is 0, 1, ..., N. PREFIX.idx is written last: if it exists,
the pair is complete. All arithmetic is in 64 bits.
"""

import mmap
import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neox_code.errors import DataError
from neox_code.files import atomic_file

MAGIC = b"MMIDIDX\0\0"
HEADER = struct.Struct("<9sQBQQ")
VERSION = 1
DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
LARGEST_VOCABULARY_OF_UINT16 = 65_499


def choose_id_dtype(vocab_size: int) -> np.dtype:
    """Return the type in which GPT-NeoX and Megatron store the ids of a vocabulary.

    >>> choose_id_dtype(50_257), choose_id_dtype(65_500)
    (dtype('uint16'), dtype('int32'))
    """
    return np.dtype(np.uint16 if vocab_size <= LARGEST_VOCABULARY_OF_UINT16 else np.int32)


def get_bin_path(prefix: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(prefix)}.bin")


def get_idx_path(prefix: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(prefix)}.idx")


def get_record_path(prefix: str | os.PathLike[str]) -> Path:
    """Return the path of PREFIX.tokens.json, the record of a token file; see neox_code/data/identity.py."""
    return Path(f"{os.fspath(prefix)}.tokens.json")


def get_origins_path(prefix: str | os.PathLike[str]) -> Path:
    """Return the path of PREFIX.origins.parquet, the origins of a token file's documents; see neox_code/data/origins.py."""
    return Path(f"{os.fspath(prefix)}.origins.parquet")


class IndexedDatasetWriter:
    """Writer of a pair of files, which get their names when the `with` block ends without an exception.

    A pair of the same name is replaced. The writer needs 12 bytes of memory per document, and 20 while it writes the index.
    """

    def __init__(self, prefix: str | os.PathLike[str], dtype: DTypeLike):
        self.prefix = prefix
        self.dtype = np.dtype(dtype)
        self.num_tokens = 0
        self.max_id: int | None = None
        """Highest token id written so far; None before the first."""
        self._code = CODES[self.dtype]
        self._range = np.iinfo(self.dtype)
        self._sizes = array("i")
        self._document_indices = array("q", [0])
        self._bin_file = atomic_file(get_bin_path(prefix), "wb")

    def __enter__(self) -> Self:
        self._bin = self._bin_file.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is not None:
            self._bin_file.__exit__(*exception)
            return
        try:
            self._bin.flush()
            os.fsync(self._bin.fileno())
            with atomic_file(get_idx_path(self.prefix), "wb") as idx:
                idx.writelines(self._index())
                idx.flush()
                os.fsync(idx.fileno())
                get_idx_path(self.prefix).unlink(missing_ok=True)  # both are on the disk; only their names change now
                get_record_path(self.prefix).unlink(missing_ok=True)
                get_origins_path(self.prefix).unlink(missing_ok=True)
                self._bin_file.__exit__(None, None, None)
        except OSError as error:
            if not self._bin.closed:
                self._bin_file.__exit__(type(error), error, error.__traceback__)
            raise

    @property
    def num_documents(self) -> int:
        return len(self._document_indices) - 1

    def add_document(self, ids: Sequence[int] | NDArray[np.integer]) -> None:
        """Add a document of one sequence."""
        self.add_item(ids)
        self.end_document()

    def add_documents(self, ids: NDArray[np.integer], lengths: NDArray[np.integer]) -> None:
        """Add documents of one sequence each: `ids` [tokens] of all documents in order, `lengths` [documents] in tokens."""
        first = len(self._sizes)
        self._add_ids(ids)
        self._sizes.frombytes(lengths.astype(np.int32).tobytes())
        self._document_indices.frombytes(np.arange(first + 1, first + 1 + len(lengths), dtype=np.int64).tobytes())

    def add_item(self, ids: Sequence[int] | NDArray[np.integer]) -> None:
        """Add a sequence to the current document; `end_document` ends the document. Raise DataError if an id exceeds the dtype."""
        values = np.asarray(ids, dtype=None if len(ids) else self.dtype)
        self._add_ids(values)
        self._sizes.append(values.size)

    def _add_ids(self, values: NDArray[np.integer]) -> None:
        if values.size and not (self._range.min <= values.min() and values.max() <= self._range.max):
            raise DataError(
                f"{get_bin_path(self.prefix)}: ids from {values.min()} to {values.max()} do not fit into {self.dtype}, which holds "
                f"{self._range.min} to {self._range.max}. Choose the type with choose_id_dtype(vocab_size)."
            )
        self._bin.write(values.astype(self.dtype.newbyteorder("<")).tobytes())
        self.num_tokens += values.size
        self._update_max_id(values)

    def _update_max_id(self, values: NDArray[np.integer]) -> None:
        """Update `max_id` with the highest of these ids."""
        if values.size:
            self.max_id = max(int(values.max()), self.max_id or 0)

    def end_document(self) -> None:
        self._document_indices.append(len(self._sizes))

    def _index(self) -> Iterator[bytes]:
        """Yield the parts of PREFIX.idx."""
        sizes = np.frombuffer(self._sizes, dtype=np.int32)
        pointers = np.zeros(len(sizes), dtype="<i8")
        np.cumsum(sizes[:-1], out=pointers[1:])
        pointers *= self.dtype.itemsize
        yield HEADER.pack(MAGIC, VERSION, self._code, len(sizes), len(self._document_indices))
        yield sizes.astype("<i4").tobytes()
        yield pointers.tobytes()
        yield np.frombuffer(self._document_indices, dtype=np.int64).astype("<i8").tobytes()


class IndexedDataset:
    """Reader of a pair of files through memory maps; its arrays are views of the files.

    The arrays of PREFIX.idx are `sizes` int32 (N,), `pointers` int64 (N,) and `document_indices` int64 (M,). Raise DataError if a
    file is missing or truncated, or if the two files do not belong together.
    """

    def __init__(self, prefix: str | os.PathLike[str]):
        self.prefix = os.fspath(prefix)
        index = map_file(get_idx_path(prefix))
        self._ids = map_file(get_bin_path(prefix))
        self.dtype, num_sequences, num_documents_and_one = read_header(get_idx_path(prefix), index)
        ends = np.cumsum([HEADER.size, 4 * num_sequences, 8 * num_sequences, 8 * num_documents_and_one])
        check_size(get_idx_path(prefix), len(index), int(ends[-1]))
        self.sizes = np.frombuffer(index, "<i4", num_sequences, ends[0])
        self.pointers = np.frombuffer(index, "<i8", num_sequences, ends[1])
        self.document_indices = np.frombuffer(index, "<i8", num_documents_and_one, ends[2])
        self._check_parts()

    def _check_parts(self) -> None:
        num_tokens = int(self.sizes.sum(dtype=np.int64))
        check_size(get_bin_path(self.prefix), len(self._ids), num_tokens * self.dtype.itemsize)
        last_end = int(self.pointers[-1]) + int(self.sizes[-1]) * self.dtype.itemsize if len(self) else 0
        ends_with = int(self.document_indices[-1]) if len(self.document_indices) else None
        if last_end != len(self._ids) or ends_with != len(self) or (len(self) and self.sizes.min() < 0):
            raise DataError(
                f"{get_idx_path(self.prefix)} is inconsistent: the last of its {len(self):,} sequences ends at byte {last_end:,} "
                f"of {len(self._ids):,} in the .bin file, and its documents end at sequence {ends_with}. Write both files again."
            )

    def __reduce__(self) -> tuple[type["IndexedDataset"], tuple[str]]:
        return type(self), (self.prefix,)

    @property
    def num_bytes(self) -> int:
        """Size of the .bin file."""
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.integer]:
        """All ids of the file [tokens], a read-only view."""
        return np.frombuffer(self._ids, self.dtype)

    def counts(self) -> dict[str, int]:
        """Return the number of documents and of tokens."""
        return {"documents": len(self.document_indices) - 1, "tokens": int(self.sizes.sum(dtype=np.int64))}

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.sizes)

    def __getitem__(self, index: int) -> NDArray[np.integer]:
        """Return the ids of a sequence as a read-only array."""
        return self.get(index)

    def get(self, index: int, offset: int = 0, length: int | None = None) -> NDArray[np.integer]:
        """Return `length` ids of a sequence from `offset` on, by default to its end, as a read-only array."""
        left = int(self.sizes[index]) - offset
        count = left if length is None else length
        if not (offset >= 0 and 0 <= count <= left):
            raise IndexError(f"sequence {index} of {self.prefix} has {self.sizes[index]} tokens, not {count} from {offset} on")
        return np.frombuffer(self._ids, self.dtype, count, int(self.pointers[index]) + offset * self.dtype.itemsize)


def map_file(path: Path) -> memoryview:
    """Map a file into memory and return its bytes. Raise DataError if it does not exist."""
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b"")
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist. Give the path without .bin and .idx; both files must exist. "
            "tools/preprocess_data.py makes them."
        ) from None


def read_header(path: Path, index: memoryview) -> tuple[np.dtype, int, int]:
    """Return the type of an id, the number of sequences and the length of the document index of a .idx file."""
    if len(index) < HEADER.size:
        check_size(path, len(index), HEADER.size)
    magic, version, code, num_sequences, num_documents_and_one = HEADER.unpack_from(index)
    if magic != MAGIC or version != VERSION or code not in DTYPES:
        raise DataError(
            f"{path} begins with {magic!r}, version {version}, type {code}, expected {MAGIC!r}, version {VERSION} and a type of "
            f"{sorted(DTYPES)}. Make the token files again with tools/preprocess_data.py --dataset-impl mmap."
        )
    return np.dtype(DTYPES[code]).newbyteorder("<"), num_sequences, num_documents_and_one


def check_size(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(
            f"{path} has {found:,} bytes, expected {expected:,}: it is truncated, or .bin and .idx do not match. Write both again."
        )
