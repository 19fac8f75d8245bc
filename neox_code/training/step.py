"""One optimizer step, with a pipeline or without: two functions of one shape, chosen once."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from neox_code.data.batch import Batch
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine, has_pipeline


@dataclass(frozen=True)
class StepResult:
    loss: float
    """Mean over the step's tokens on all ranks, in nats."""
    gradient_norm: float | None
    """Over all parameters, before clipping."""
    skipped: bool
    """Whether fp16 overflowed and the weights stayed as they were."""


Step = Callable[[Engine, Iterator[Batch], ParallelGrid], StepResult]
Evaluate = Callable[[Engine, Iterator[Batch], ParallelGrid], float]


def pipeline_step(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> StepResult:
    """Accumulation, pipeline schedule and optimizer are DeepSpeed's."""
    skipped = engine.skipped_steps
    loss = engine.train_batch(data_iter=batches)
    return StepResult(float(loss), gradient_norm(engine), engine.skipped_steps > skipped)


def plain_step(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> StepResult:
    """Micro batches one after the other through a plain module."""
    skipped = engine.skipped_steps
    engine.train()
    total = torch.zeros((), device=grid.device)
    for _ in range(engine.gradient_accumulation_steps()):
        loss = engine(to_device(next(batches), grid.device))
        engine.backward(loss)
        engine.step()
        total += loss.detach().float()
    return StepResult(average(total, engine, grid), gradient_norm(engine), engine.skipped_steps > skipped)


def pipeline_evaluation(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> float:
    """The loss of as many micro batches as a step has, without gradients."""
    return float(engine.eval_batch(data_iter=batches))


def plain_evaluation(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> float:
    engine.eval()
    total = torch.zeros((), device=grid.device)
    with torch.no_grad():
        for _ in range(engine.gradient_accumulation_steps()):
            total += engine(to_device(next(batches), grid.device)).float()
    return average(total, engine, grid)


def choose_step(engine: Engine) -> tuple[Step, Evaluate]:
    """The pair that fits the engine."""
    return (pipeline_step, pipeline_evaluation) if has_pipeline(engine) else (plain_step, plain_evaluation)


def average(total: torch.Tensor, engine: Engine, grid: ParallelGrid) -> float:
    """The mean of losses summed over micro batches, over the data-parallel ranks too."""
    return float(all_reduce(total, grid.data_group)) / (engine.gradient_accumulation_steps() * grid.data_size)


def to_device(batch: Batch, device: torch.device) -> Batch:
    tokens, (labels, mask) = batch
    return tokens.to(device), (labels.to(device), mask.to(device))


def gradient_norm(engine: Engine) -> float | None:
    norm = engine.get_global_grad_norm()
    return None if norm is None or not math.isfinite(float(norm)) else float(norm)
