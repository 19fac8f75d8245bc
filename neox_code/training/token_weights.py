"""Compute a loss weight per token, so that loss and gradient do not depend on how a batch is divided into micro batches and ranks.

    for tokens, (labels, weights) in WeightedBatches(batches, engine.gradient_accumulation_steps(), grid): ...

DeepSpeed averages the losses of micro batches and of data-parallel ranks. Each micro batch's loss is a weighted sum with

    weight of a token = micro batches * data ranks / unmasked tokens of the whole batch, 0 where the token is masked

so that this average is the mean over all unmasked tokens of the whole batch. A batch without unmasked tokens has the loss 0.
"""

from collections.abc import Iterator
from itertools import chain, islice

import torch

from neox_code.data.batch import Batch
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid


class WeightedBatches:
    """The micro batches of one step on this rank, with fp32 weights [B, S] instead of masks. It can be iterated once.

    With masks, all micro batches are read before the first is returned: the first forward pass needs the sum of their masks over
    the data ranks. Without masks the number of tokens is known and nothing is communicated.
    """

    def __init__(self, batches: Iterator[Batch], micro_batches: int, grid: ParallelGrid):
        self.batches, self.micro_batches, self.grid = batches, micro_batches, grid
        self.tokens = torch.zeros((), dtype=torch.float64, device=grid.device)
        """Number of unmasked tokens of the whole batch on all data ranks; 0 on a rank that reads no batch."""

    def __iter__(self) -> Iterator[Batch]:
        parts = self.micro_batches * self.grid.data_size
        batches = islice(self.batches, self.micro_batches)
        first = next(batches)
        labels_BS, mask_BS = first[1]
        if mask_BS is None:
            self.tokens += labels_BS.numel() * parts
            weights_BS = torch.full(labels_BS.shape, 1 / labels_BS.numel(), device=self.grid.device)
            for tokens_BS, (labels_BS, _) in chain([first], batches):
                yield tokens_BS, (labels_BS, weights_BS)
            return
        whole = [first, *batches]
        self.tokens += sum(mask.sum(dtype=torch.float64) for _, (_, mask) in whole if mask is not None)
        all_reduce(self.tokens, self.grid.data_group)
        scale = torch.where(self.tokens > 0, parts / self.tokens, 0).float()
        for tokens_BS, (labels_BS, mask_BS) in whole:
            assert mask_BS is not None
            yield tokens_BS, (labels_BS, mask_BS.to(self.grid.device, non_blocking=True) * scale)
