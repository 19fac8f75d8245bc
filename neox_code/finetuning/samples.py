"""Samples of rows: packed, or one row a sample. Every row begins with the end-of-document token.

    samples = RowSamples(rows, pieces, sample_length, eod_id, is_packed=True, seed=1234)
    samples[0]["tokens"], samples[0]["labels"], samples[0]["loss_mask"]        # each [S]

    tokens     E  p0 p1 c0 c1 E  p0 c0 E            E: end-of-document token, p: prompt, c: completion
    labels     p0 p1 c0 c1 E  p0 c0 E  .
    loss_mask  0  0  1  1  1  0  1  1  0            completion_only_loss

A row with a middle (neox_code/finetuning/middles.py) has the tokens E PRE prefix SUF suffix MID middle E, or those of SPM.

In a packed sample the E after a row is the E before the next one. A sample of one row is as long as the row; `collate_padded` makes
the samples of a micro batch equally long.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from neox_code.data.batch import Batch, collate
from neox_code.data.packed_samples import Sample
from neox_code.data.packing import pack_documents
from neox_code.data.shares import DocumentPart
from neox_code.finetuning.middles import RowMiddles
from neox_code.finetuning.selection import RowPieces
from neox_code.finetuning.token_rows import TokenRows


class RowSamples(Dataset):
    """The samples of one epoch. `seed` decides which pieces share a sample, and the order of the samples."""

    def __init__(
        self,
        rows: TokenRows,
        pieces: RowPieces,
        sample_length: int,
        eod_id: int,
        is_packed: bool,
        seed: Sequence[int],
        middles: RowMiddles | None = None,
    ):
        self.rows, self.pieces, self.sample_length, self.eod_id, self.is_packed = rows, pieces, sample_length, eod_id, is_packed
        self.seed, self.middles = seed, middles
        numbers, generator = np.arange(len(pieces.rows)), np.random.default_rng(seed)
        self.lengths = pieces.lengths + (0 if middles is None else middles.most_added)
        if is_packed:
            packed = pack_documents(numbers, self.lengths, sample_length, generator)
            self.ends, self.order = packed.row_ends, packed.documents
        else:
            self.ends, self.order = numbers + 1, generator.permutation(numbers)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def num_inputs(self) -> int:
        """Number of filled positions of all samples; a little less with `middles`."""
        return int(np.minimum(self.lengths + 1, self.sample_length).sum())

    def list_parts(self, index: int) -> list[DocumentPart]:
        """Return the parts of rows in a sample; the number of a document is that of the row in its file."""
        parts, place = [], 1
        for piece in self.list_pieces(index):
            file, number = self.rows.place(int(self.pieces.rows[piece]))
            length = len(self.read_piece(piece)[0])
            parts.append(DocumentPart(str(file), number, int(self.pieces.offsets[piece]), length, place))
            place += length + 1
        return parts

    def list_pieces(self, index: int) -> list[int]:
        """Return the numbers of the pieces of a sample."""
        return self.order[(self.ends[index - 1] if index else 0) : self.ends[index]].tolist()

    def read_piece(self, piece: int) -> tuple[Sequence[int] | np.ndarray, Sequence[bool] | np.ndarray, bool]:
        """Return the ids of a piece, True for each id that enters the loss, and True if the token after them enters it."""
        rows, row = self.rows, int(self.pieces.rows[piece])
        own = rows.slice(row, int(self.pieces.offsets[piece]), int(self.pieces.lengths[piece]))
        ids, targets, learns_end = rows.tokens[own], rows.targets[own], bool(own.stop == rows.ends[row] and rows.ends_learned[row])
        if self.middles is None:
            return ids, targets, learns_end
        new_ids, new_targets, is_divided = self.middles.maybe_rearrange(ids, targets, [*self.seed, piece])
        return new_ids, new_targets, is_divided or learns_end

    def __getitem__(self, index: int) -> Sample:
        pieces = [self.read_piece(piece) for piece in self.list_pieces(index)]
        filled = sum(len(own) + 1 for own, *_ in pieces)
        size = self.sample_length if self.is_packed else min(filled, self.sample_length)
        ids = np.full(max(filled, size) + 1, self.eod_id, np.int64)
        is_learned = np.zeros(len(ids), np.float32)
        place = 1
        for own, targets, learns_end in pieces:
            ids[place : place + len(own)] = own
            is_learned[place : place + len(own)] = targets
            place += len(own) + 1
            is_learned[place - 1] = learns_end
        tokens, labels = torch.from_numpy(ids[:size]), torch.from_numpy(ids[1 : size + 1])
        return {"tokens": tokens, "labels": labels, "loss_mask": torch.from_numpy(is_learned[1 : size + 1])}


class WholeBatches(Dataset):
    """Samples for evaluation, completed to a multiple of `multiple` with copies of the first one that do not enter the loss."""

    def __init__(self, samples: RowSamples, multiple: int):
        self.samples = samples
        self.num_samples = -(-len(samples) // multiple) * multiple

    def extend(self, num_samples: int) -> None:
        """Do nothing: evaluation reads each sample once."""

    def list_parts(self, index: int) -> list[DocumentPart]:
        return self.samples.list_parts(index) if index < len(self.samples) else []

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Sample:
        if index < len(self.samples):
            return self.samples[index]
        first = self.samples[0]
        return first | {"loss_mask": torch.zeros_like(first["loss_mask"])}


def collate_padded(samples: Sequence[Sample], eod_id: int, multiple: int) -> Batch:
    """Stack samples of different lengths. The length is that of the longest sample, rounded up to a multiple of `multiple`."""
    longest = max(len(sample["tokens"]) for sample in samples)
    length = -(-longest // multiple) * multiple
    fill = {"tokens": eod_id, "labels": eod_id, "loss_mask": 0.0}

    def pad(sample: Sample) -> Sample:
        missing = length - len(sample["tokens"])
        return {name: torch.nn.functional.pad(value, (0, missing), value=fill[name]) for name, value in sample.items()}

    return collate([pad(sample) for sample in samples])
