"""Loss and bits per byte on validation data. Every validation reads the same samples, so that the results can be compared."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from neox_code.data.batch import Batch
from neox_code.data.loaders import BatchLoader
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine
from neox_code.training.step import Evaluate


class Evaluation(NamedTuple):
    loss: float
    """Mean over the unmasked tokens, in nats."""
    bits_per_byte: float | None
    """Sum over the unmasked tokens in bits, divided by the bytes to which they decode; None if these are 0."""


def validate(
    engine: Engine,
    evaluate: Evaluate,
    loader: BatchLoader,
    eval_iters: int,
    grid: ParallelGrid,
    advance: Callable[[], object],
    is_stop_requested: Callable[[], bool],
    token_bytes: torch.Tensor,
    first_sample: int = 0,
) -> Evaluation | None:
    """Return the loss and the bits per byte of `eval_iters` batches from `first_sample` on.

    Return None if all tokens are masked or a stop is requested. Call `advance()` after each batch. `is_stop_requested` must return
    the same value on all ranks. `token_bytes` int64 [vocabulary] is the number of bytes of each id.
    """
    loader.seek(first_sample)
    own_bytes = torch.zeros((), dtype=torch.int64)
    batches = count_bytes(iter(loader), token_bytes, own_bytes)
    total = tokens = 0.0
    for _ in range(eval_iters):
        loss, count = evaluate(engine, batches, grid)
        total += loss * count
        tokens += count
        advance()
        if is_stop_requested():
            return None
    num_bytes = all_reduce(own_bytes.to(grid.device), grid.data_group)
    if grid.pipeline_size > 1:  # the middle stages read no batches
        num_bytes = all_reduce(num_bytes, dist.group.WORLD, ReduceOp.MAX)
    if not tokens:
        return None
    return Evaluation(total / tokens, total / math.log(2) / int(num_bytes) if num_bytes else None)


def count_bytes(batches: Iterator[Batch], token_bytes: torch.Tensor, total: torch.Tensor) -> Iterator[Batch]:
    """Yield the batches; add the bytes of their unmasked labels to `total` int64 []."""
    for tokens_BS, (labels_BS, mask_BS) in batches:
        lengths_BS = token_bytes[labels_BS]
        total += (lengths_BS if mask_BS is None else lengths_BS[mask_BS > 0]).sum()
        yield tokens_BS, (labels_BS, mask_BS)
