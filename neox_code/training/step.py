"""Make one optimizer step, with or without a pipeline. `choose_step_functions` selects the variant that fits the engine."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from deepspeed import DeepSpeedEngine
from torch.distributed import ReduceOp

from neox_code.data.batch import Batch, move_to_device
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine, has_pipeline
from neox_code.training.plain_engine import PlainEngine
from neox_code.training.token_weights import WeightedBatches


@dataclass(frozen=True)
class StepResult:
    loss: float
    """Mean over the step's unmasked tokens on all ranks, in nats."""
    gradient_norm: float | None
    """L2 norm of the gradient over all parameters, before clipping; None if it is not finite."""
    skipped: bool
    """True if the gradient was not finite, so that the step did not change the weights."""


ReadResult = Callable[[], StepResult]
"""A function that returns the result of a step. On a GPU it waits for the step; the plain engine's steps themselves do not."""

Step = Callable[[Any, Iterator[Batch], ParallelGrid], ReadResult]
Evaluate = Callable[[Any, Iterator[Batch], ParallelGrid], tuple[float, float]]
"""Function that reads the micro batches of one step. It returns their mean loss in nats and their number of unmasked tokens."""


def run_pipeline_step(engine: DeepSpeedEngine, batches: Iterator[Batch], grid: ParallelGrid) -> ReadResult:
    """Make a step with DeepSpeed's gradient accumulation, pipeline schedule and optimizer."""
    skipped = engine.skipped_steps
    loss = engine.train_batch(data_iter=iter(compute_batch_weights(engine, batches, grid)))
    result = StepResult(float(loss), read_gradient_norm(engine), engine.skipped_steps > skipped)
    return lambda: result


def run_plain_step(engine: DeepSpeedEngine, batches: Iterator[Batch], grid: ParallelGrid) -> ReadResult:
    """Make a step of DeepSpeed's engine with a plain module, which reads the micro batches one after the other."""
    skipped = engine.skipped_steps
    engine.train()
    total = torch.zeros((), device=grid.device)
    for batch in compute_batch_weights(engine, batches, grid):
        loss = engine(move_to_device(batch, grid.device))
        engine.backward(loss)
        engine.step()
        total += loss.detach().float()
    result = StepResult(average_losses(total, engine, grid), read_gradient_norm(engine), engine.skipped_steps > skipped)
    return lambda: result


def run_own_step(engine: PlainEngine, batches: Iterator[Batch], grid: ParallelGrid) -> ReadResult:
    """Make a step of the plain engine, which reads the micro batches one after the other."""
    engine.train()
    total = torch.zeros((), device=grid.device)
    for batch in compute_batch_weights(engine, batches, grid):
        loss = engine(move_to_device(batch, grid.device))
        engine.backward(loss)
        total += loss.detach()
    figures = engine.step(total)
    if grid.device.type != "cuda":
        return partial(make_result, figures)
    on_host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
    on_host.copy_(figures, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> StepResult:
        copied.synchronize()
        return make_result(on_host)

    return read


def make_result(figures: torch.Tensor) -> StepResult:
    """Return the result of a step from the plain engine's figures, fp64 [3]."""
    loss, norm, skipped = figures.tolist()
    return StepResult(loss, norm if math.isfinite(norm) else None, bool(skipped))


def run_pipeline_evaluation(engine: DeepSpeedEngine, batches: Iterator[Batch], grid: ParallelGrid) -> tuple[float, float]:
    """Evaluate with the pipeline. Only the first and the last stage read batches and count tokens."""
    own = compute_batch_weights(engine, batches, grid)
    loss = float(engine.eval_batch(data_iter=iter(own)))
    return loss, float(all_reduce(own.tokens, dist.group.WORLD, ReduceOp.MAX) if grid.pipeline_size > 1 else own.tokens)


def run_plain_evaluation(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> tuple[float, float]:
    """Evaluate with a plain module."""
    engine.eval()
    total, own = torch.zeros((), device=grid.device), compute_batch_weights(engine, batches, grid)
    with torch.no_grad():
        for batch in own:
            total += engine(move_to_device(batch, grid.device)).float()
    return average_losses(total, engine, grid), float(own.tokens)


def compute_batch_weights(engine: Engine, batches: Iterator[Batch], grid: ParallelGrid) -> WeightedBatches:
    """Return the next step's micro batches with the weights of their tokens."""
    return WeightedBatches(batches, engine.gradient_accumulation_steps(), grid)


def choose_step_functions(engine: Engine) -> tuple[Step, Evaluate]:
    """Return the functions for a training step and for evaluation, for an engine with or without a pipeline."""
    if has_pipeline(engine):
        return run_pipeline_step, run_pipeline_evaluation
    return run_own_step if isinstance(engine, PlainEngine) else run_plain_step, run_plain_evaluation


def average_losses(total: torch.Tensor, engine: Engine, grid: ParallelGrid) -> float:
    """Return the mean loss over micro batches and data-parallel ranks; `total` is the sum over micro batches."""
    return float(all_reduce(total, grid.data_group)) / (engine.gradient_accumulation_steps() * grid.data_size)


def read_gradient_norm(engine: DeepSpeedEngine) -> float | None:
    norm = engine.get_global_grad_norm()
    return None if norm is None or not math.isfinite(float(norm)) else float(norm)
