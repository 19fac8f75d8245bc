"""The loop over optimizer steps: learning rate, step, log line, validation, checkpoint, in this order.

Every step does the same things on every rank; what only one rank decides (the clock) is agreed on first.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.data.loaders import Loaders
from neox_code.errors import NeoXError
from neox_code.logs import get_logger, is_rank_zero, progress
from neox_code.parallel.collectives import any_rank
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine
from neox_code.training.schedule import scheduled_rate
from neox_code.training.state import TrainingState
from neox_code.training.step import StepResult, choose_step
from neox_code.training.throughput import memory_gib, model_flops_utilization, peak_tflops
from neox_code.training.trackers import Tracker
from neox_code.training.validation import validate

log = get_logger(__name__)

Save = Callable[[TrainingState], object]


@dataclass
class Interval:
    """What has happened since the last log line."""

    begin: float = field(default_factory=time.monotonic)
    losses: list[float] = field(default_factory=list)
    skipped: int = 0

    def add(self, result: StepResult) -> None:
        self.losses.append(result.loss)
        self.skipped += result.skipped

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.begin, 1e-9)


def run(
    engine: Engine,
    loaders: Loaders,
    state: TrainingState,
    config: NeoXConfig,
    sizes: BatchSizes,
    padded_vocab_size: int,
    grid: ParallelGrid,
    trackers: list[Tracker],
    save: Save,
) -> TrainingState:
    """Trains until `train_iters` (or `exit_interval`), saving as configured and at the end. Returns the last state.

    Raises NeoXError where the loss is no number any more.
    """
    training = config.training
    step, evaluate = choose_step(engine)
    tokens_per_step = sizes.train_batch_size * config.model.sample_length
    peak = peak_tflops(config)
    batches = iter(loaders.train)
    interval, last_save, saved = Interval(), time.monotonic(), state.iteration

    def maybe_validate(last: bool) -> None:
        due = last or state.iteration % training.eval_interval == 0
        if due and loaders.valid is not None and training.eval_iters:
            loss = validate(engine, evaluate, loaders.valid, training.eval_iters, grid)
            log.info("validation at iteration %d | loss %.4f | perplexity %.2f", state.iteration, loss, math.exp(min(loss, 80)))
            for tracker in trackers:
                tracker.log(state.iteration, {"validation/lm_loss": loss, "validation/lm_loss_ppl": math.exp(min(loss, 80))})

    log.info("training from iteration %d to %d, %s tokens a step", state.iteration, training.train_iters, f"{tokens_per_step:,}")
    with progress("training", training.train_iters, " steps", every_seconds=60) as advance:
        advance(state.iteration)
        while state.iteration < training.train_iters:
            rate = set_learning_rate(engine, config, state.iteration + 1)
            result = step(engine, batches, grid)
            state.advance(sizes.train_batch_size)
            interval.add(result)
            check_finite(result, state, config)
            advance(1)
            last = state.iteration == training.train_iters or is_exit(state.iteration, training.exit_interval)
            if last or state.iteration % training.log_interval == 0:
                report(state, interval, result, rate, tokens_per_step, padded_vocab_size, peak, config, grid, trackers)
                interval = Interval()
            pause = time.monotonic()
            if last or state.iteration % training.eval_interval == 0:
                maybe_validate(last)
            if training.save and (last or is_save_due(state.iteration, last_save, config, grid)):
                save(state)
                last_save, saved = time.monotonic(), state.iteration
            interval.begin += time.monotonic() - pause
            if last:
                break
    if training.save and saved != state.iteration:
        save(state)
    return state


def set_learning_rate(engine: Engine, config: NeoXConfig, step_number: int) -> float:
    """Sets the schedule's rate of this step in all parameter groups; returns it."""
    rate = scheduled_rate(step_number, config.optimizer, config.training.train_iters)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    return rate


def is_exit(iteration: int, exit_interval: int | None) -> bool:
    return bool(exit_interval) and iteration % exit_interval == 0


def is_save_due(iteration: int, last_save: float, config: NeoXConfig, grid: ParallelGrid) -> bool:
    """By the count of steps, by the list of extra steps, or by rank zero's clock."""
    training = config.training
    if iteration in training.extra_save_iters or (training.checkpoint_factor and iteration % training.checkpoint_factor == 0):
        return True
    if training.checkpoint_interval_seconds is None:
        return False
    return any_rank(is_rank_zero() and time.monotonic() - last_save >= training.checkpoint_interval_seconds, grid.device)


def check_finite(result: StepResult, state: TrainingState, config: NeoXConfig) -> None:
    """A loss that is no number stays one: better to stop than to save it."""
    if not math.isfinite(result.loss) and not result.skipped:
        raise NeoXError(
            f"the loss is {result.loss} at iteration {state.iteration}: training has diverged. "
            f"Go on from an earlier checkpoint in {config.training.save} (--iteration) with a lower lr ({config.optimizer.lr}), "
            "a longer warmup, or stronger gradient_clipping."
        )


def report(
    state: TrainingState,
    interval: Interval,
    result: StepResult,
    rate: float,
    tokens_per_step: int,
    padded_vocab_size: int,
    peak: float | None,
    config: NeoXConfig,
    grid: ParallelGrid,
    trackers: list[Tracker],
) -> None:
    """The log line of an interval, and the same figures to the trackers."""
    steps = len(interval.losses)
    loss = sum(interval.losses) / steps
    tokens_per_second = steps * tokens_per_step / interval.seconds
    per_device = tokens_per_second / grid.world_size
    utilization = model_flops_utilization(config, padded_vocab_size, per_device, peak)
    parts = [
        f"iteration {state.iteration}",
        f"loss {loss:.4f}",
        f"lr {rate:.2e}",
        f"{per_device:,.0f} tokens/s/{'GPU' if grid.device.type == 'cuda' else 'rank'}",
        *([f"{100 * utilization:.1f}% MFU"] if utilization is not None else []),
        f"{memory_gib():.2f} GiB",
        *([f"{interval.skipped} steps skipped (fp16 overflow)"] if interval.skipped else []),
    ]
    log.info("%s", " | ".join(parts))
    scalars = {
        "train/lm_loss": loss,
        "train/learning_rate": rate,
        **({"train/grad_norm": result.gradient_norm} if result.gradient_norm is not None else {}),
        "train/consumed_samples": state.consumed_samples,
        "train/consumed_tokens": state.consumed_samples * config.model.sample_length,
        "runtime/tokens_per_sec": tokens_per_second,
        "runtime/samples_per_sec": tokens_per_second / config.model.sample_length,
        "runtime/iteration_time": interval.seconds / steps,
        **({"runtime/model_flops_utilization": utilization} if utilization is not None else {}),
        "runtime/memory_gib": memory_gib(),
    }
    for tracker in trackers:
        tracker.log(state.iteration, scalars)
