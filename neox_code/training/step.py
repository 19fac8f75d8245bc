"""One optimizer step, with a pipeline or without: two functions of one shape, chosen once."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from neox_code.data.batch import Batch
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine, has_pipeline
from neox_code.training.token_weights import WeightedBatches


@dataclass(frozen=True)
class StepResult:
    loss: float
    """Mean over the step's unmasked tokens on all ranks, in nats."""
    gradient_norm: float | None
    """Norm over all parameters before clipping; None where it is not finite."""
    skipped: bool
    """True if the gradient was not finite, so that the weights stayed as they were."""


Step = Callable[[Engine, Iterator[Batch], ParallelGrid], StepResult]
Evaluate = Callable[[Engine, Iterator[Batch], ParallelGrid], tuple[float, float]]
"""Returns the mean loss in nats of as many micro batches as a step has, and the number of unmasked tokens it is the mean of."""


def pipeline_step(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> StepResult:
    """Make a step whose accumulation, pipeline schedule and optimizer are DeepSpeed's."""
    skipped = engine.skipped_steps
    loss = engine.train_batch(data_iter=iter(weighted(engine, batches, grid)))
    return StepResult(float(loss), gradient_norm(engine), engine.skipped_steps > skipped)


def plain_step(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> StepResult:
    """Make a step of micro batches one after the other through a plain module."""
    skipped = engine.skipped_steps
    engine.train()
    total = torch.zeros((), device=grid.device)
    for batch in weighted(engine, batches, grid):
        loss = engine(to_device(batch, grid.device))
        engine.backward(loss)
        engine.step()
        total += loss.detach().float()
    return StepResult(average(total, engine, grid), gradient_norm(engine), engine.skipped_steps > skipped)


def pipeline_evaluation(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> tuple[float, float]:
    """Evaluate over the pipeline's stages, of which only the first and the last read batches and know their tokens."""
    own = weighted(engine, batches, grid)
    loss = float(engine.eval_batch(data_iter=iter(own)))
    return loss, float(all_reduce(own.tokens, dist.group.WORLD, ReduceOp.MAX) if grid.pipeline_size > 1 else own.tokens)


def plain_evaluation(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> tuple[float, float]:
    """Evaluate with a plain module."""
    engine.eval()
    total, own = torch.zeros((), device=grid.device), weighted(engine, batches, grid)
    with torch.no_grad():
        for batch in own:
            total += engine(to_device(batch, grid.device)).float()
    return average(total, engine, grid), float(own.tokens)


def weighted(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> WeightedBatches:
    """Return the next step's micro batches with the weights of their tokens."""
    return WeightedBatches(batches, engine.gradient_accumulation_steps(), grid)


def choose_step(engine: Engine) -> tuple[Step, Evaluate]:
    """The pair that fits the engine."""
    return (pipeline_step, pipeline_evaluation) if has_pipeline(engine) else (plain_step, plain_evaluation)


def average(total: torch.Tensor, engine: Engine, grid: ParallelGrid) -> float:
    """The mean of losses summed over micro batches, over the data-parallel ranks too."""
    return float(all_reduce(total, grid.data_group)) / (engine.gradient_accumulation_steps() * grid.data_size)


def to_device(batch: Batch, device: torch.device) -> Batch:
    tokens, (labels, weights) = batch
    assert weights is not None
    return tokens.to(device), (labels.to(device), weights.to(device))


def gradient_norm(engine: Engine) -> float | None:
    norm = engine.get_global_grad_norm()
    return None if norm is None or not math.isfinite(float(norm)) else float(norm)
