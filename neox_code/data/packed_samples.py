"""Samples of `pack_impl: best_fit`: rows of whole documents, each of which begins with an end-of-document token.

    samples = PackedSamples(share, share.documents, settings, cache, seed)
    samples[0]["tokens"], samples[0]["labels"], samples[0]["loss_mask"]        # each [S]

neox_code/data/packing.py draws the rows. The end-of-document token at a position belongs to the document after it. Empty positions
have the end-of-document token, and are masked in the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from neox_code.data.identity import hash_bin_sample
from neox_code.data.index_cache import Arrays, IndexCache
from neox_code.data.indexed_dataset import IndexedDataset, get_bin_path
from neox_code.data.packing import PackedRows, pack_documents
from neox_code.data.shares import DocumentPart, Share, hash_documents
from neox_code.errors import DataError

Sample = dict[str, torch.Tensor]

EMPTY = -1
"""Mark of an empty position, which is masked in the loss."""


@dataclass(frozen=True)
class SampleSettings:
    """Values that determine a sample besides its documents."""

    sequence_length: int
    vocab_size: int
    eod_id: int
    eod_mask_loss: bool


class PackedSamples(Dataset):
    """The rows of one epoch of a share. `documents` are the epoch's documents; `seed` decides which of them share a row."""

    def __init__(
        self, share: Share, documents: NDArray[np.int32], settings: SampleSettings, cache: IndexCache, seed: int | Sequence[int]
    ):
        self.share, self.settings, self.seed = share, settings, seed

        def make() -> Arrays:
            lengths = count_content_tokens(share, settings.eod_id, cache)[documents]
            rows = pack_documents(documents, lengths, settings.sequence_length, np.random.default_rng(seed))
            return {name: getattr(rows, name) for name in PackedRows.__annotations__}

        key = {
            "rows": "best_fit 1",
            "documents": hash_documents(documents) if share.idx_sha256 else "",
            "sequence_length": settings.sequence_length,
            "seed": seed,
        }
        self.rows = cache.get(make_file_key(share, settings.eod_id) | key, 3 * len(documents), make)

    def __len__(self) -> int:
        return len(self.rows["row_ends"])

    @property
    def num_padding(self) -> int:
        """Number of empty positions in all rows."""
        inputs = np.add.reduceat(self.rows["lengths"] + 1, np.concatenate([[0], self.rows["row_ends"][:-1]]))
        return int(np.maximum(self.settings.sequence_length - inputs, 0).sum())

    def list_parts(self, index: int) -> list[DocumentPart]:
        """Return the parts of documents in a row, in order."""
        begin, end = (int(self.rows["row_ends"][number]) if number >= 0 else 0 for number in (index - 1, index))
        parts, place = [], 0
        for piece in range(begin, end):
            document, offset, length = (int(self.rows[name][piece]) for name in ("documents", "offsets", "lengths"))
            parts.append(DocumentPart(self.share.prefix, document, offset, length, place + 1))
            place += length + 1
        return parts

    def __getitem__(self, index: int) -> Sample:
        settings = self.settings
        pieces = []
        for part in self.list_parts(index):
            own = self.share.file.get(part.document, part.offset, part.length)
            check_ids(own, settings.vocab_size, self.share.prefix, [part.document])
            pieces += [np.array([settings.eod_id]), self.share.transform_part(own, part, self.seed, index)]
        ids = fit_to_length([*pieces, np.array([settings.eod_id])], settings.sequence_length + 1, EMPTY)
        return make_sample(ids, EMPTY, settings.eod_id, settings.eod_id if settings.eod_mask_loss else None)


def fit_to_length(pieces: Sequence[NDArray[Any]], length: int, padding: int) -> NDArray[np.int64]:
    """Return the joined ids [length]: the end is cut off, or filled with `padding`.

    >>> fit_to_length([np.array([5, 6]), np.array([7])], 2, -1).tolist(), fit_to_length([np.array([5])], 2, -1).tolist()
    ([5, 6], [5, -1])
    """
    joined = np.concatenate(pieces, dtype=np.int64)[:length]
    return np.concatenate([joined, np.full(length - len(joined), padding, np.int64)])


def make_sample(ids: NDArray[np.int64], padding: int, filler: int, masked_input: int | None) -> Sample:
    """Return the sample of ids [S + 1]. Labels that are `padding` are masked; `filler` replaces `padding`.

    Positions whose input is the id `masked_input` are masked too.
    """
    tokens, labels = torch.from_numpy(ids[:-1]), torch.from_numpy(ids[1:])
    mask = labels != padding
    if masked_input is not None:
        mask &= tokens != masked_input
    tokens, labels = (each.masked_fill(each == padding, filler) for each in (tokens, labels))
    return {"tokens": tokens, "labels": labels, "loss_mask": mask.float()}


def check_ids(ids: NDArray[Any], vocab_size: int, prefix: str, documents: Sequence[int]) -> None:
    """Raise DataError with the file and its documents for an id that the vocabulary does not have."""
    if len(ids) and (ids.max() >= vocab_size or ids.min() < 0):
        wrong = int(ids[(ids >= vocab_size) | (ids < 0)][0])
        raise DataError(
            f"{get_bin_path(prefix)} has token id {wrong:,} in one of its documents {min(documents):,} to {max(documents):,}, but "
            f"the vocabulary has the ids 0 to {vocab_size - 1:,}. Set tokenizer_type and vocab_file to those that the token file "
            "was made with, or make it again."
        )


def make_file_key(share: Share, eod_id: int) -> dict[str, Any]:
    """Return the part of a cache key that identifies a token file and its end-of-document token; {} if nothing is cached."""
    if not share.idx_sha256:
        return {}
    return {"idx_sha256": share.idx_sha256, "bin_sample_sha256": hash_bin_sample(share.prefix), "eod_id": eod_id}


def count_content_tokens(share: Share, eod_id: int, cache: IndexCache) -> NDArray[np.int64]:
    """Return the number of tokens of every document of the file, without an end-of-document token at its end."""

    def make() -> Arrays:
        dataset = IndexedDataset(share.prefix)
        ends = dataset.pointers // dataset.dtype.itemsize + dataset.sizes - 1
        has_end = dataset.sizes > 0
        has_end[has_end] = dataset.ids[ends[has_end]] == eod_id
        return {"lengths": dataset.sizes.astype(np.int64) - has_end}

    key = make_file_key(share, eod_id) | {"lengths": "without end-of-document tokens"}
    return cache.get(key, len(share.file.sequence_lengths), make)["lengths"]
