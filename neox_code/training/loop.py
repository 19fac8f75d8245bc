"""The loop over optimizer steps: learning rate, step, log line, validation, checkpoint, in this order; the test at the end.

    state = Run(engine, loaders, state, config, sizes, padded_vocab_size, grid, trackers, save).to_the_end()

Every step does the same things on every rank; what only one rank decides (the clock) is agreed on first.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.data.batch import Batch
from neox_code.data.loaders import BatchLoader, Loaders
from neox_code.errors import EXIT_RESUME
from neox_code.launch.stop_signals import StopRequest
from neox_code.logs import get_logger, is_rank_zero, progress
from neox_code.parallel.collectives import any_rank, from_rank_zero
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.seeds import seed_dropout
from neox_code.training.engine import Engine
from neox_code.training.loss_guard import LossGuard
from neox_code.training.schedule import schedule_position, scheduled_rate
from neox_code.training.state import TrainingState
from neox_code.training.step import StepResult, choose_step
from neox_code.training.throughput import memory_gib, model_flops_utilization, peak_tflops
from neox_code.training.trackers import Tracker
from neox_code.training.validation import validate
from neox_code.watchdog.watchdog import Watchdog

log = get_logger(__name__)


@dataclass
class Interval:
    """What has happened since the last log line."""

    begin: float = field(default_factory=time.monotonic)
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    """Those that are finite."""
    skipped: int = 0

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.begin, 1e-9)


@dataclass
class Run:
    """A training that goes on from `state`."""

    engine: Engine
    loaders: Loaders
    state: TrainingState
    config: NeoXConfig
    sizes: BatchSizes
    padded_vocab_size: int
    grid: ParallelGrid
    trackers: Sequence[Tracker]
    save: Callable[[TrainingState], object]
    """Writes a checkpoint of the state; called on every rank."""
    stop: StopRequest = field(default_factory=StopRequest)
    """The signals of this rank: after one on any rank, all end the step, save and return."""

    def to_the_end(self) -> TrainingState:
        """Train until `train_iters`, `train_seconds` or `exit_interval`; save as configured and at the end; return the last state.

        Raises NeoXError where losses or gradients stay not finite (see `LossGuard`).
        """
        training, state = self.config.training, self.state
        self.step, self.evaluate = choose_step(self.engine)
        self.peak_tflops = peak_tflops(self.config)
        self.interval, self.last_save = Interval(), time.monotonic()
        self.guard, is_save_postponed = LossGuard(self.config), False
        batches = iter(self.loaders.train)
        log.info(
            "training from iteration %d to %d%s, %s tokens a step",
            state.iteration,
            training.train_iters,
            f" or {training.train_seconds - state.seconds:.0f} s" if training.train_seconds else "",
            f"{self.tokens_per_step:,}",
        )
        self.time_origin = time.monotonic() - state.seconds
        self.watchdog = Watchdog(self.config.parallelism.hang_timeout_seconds, self.grid)
        self.stop.defer(self.config.parallelism.stop_timeout_seconds)
        bar = progress("training", training.train_iters, " steps", every_seconds=60, done=state.iteration)
        with self.watchdog, bar as advance:
            while not self.is_finished():
                result, rate = self.one_step(batches)
                self.watchdog.beat()
                advance(1, total=self.expected_iterations())
                is_last = self.is_finished() or is_multiple(state.iteration, training.exit_interval)
                if is_last or is_multiple(state.iteration, training.log_interval):
                    self.report(result, rate)
                pause = time.monotonic()
                if is_last or is_multiple(state.iteration, training.eval_interval):
                    self.maybe_evaluate("validation", self.loaders.valid)
                if is_last:
                    self.guard.require_finite_loss(state.iteration)
                is_due = is_last or self.is_save_due() or is_save_postponed
                is_save_postponed = is_due and not self.guard.is_loss_finite
                is_saved = bool(training.save) and is_due and not is_save_postponed
                if is_saved:
                    self.save_now()
                if self.is_finished():
                    self.maybe_evaluate("test", self.loaders.test)
                self.interval.begin += time.monotonic() - pause
                if is_last:
                    break
                if self.is_stop_requested():
                    self.follow_request(result, rate, is_saved)
                    break
        return state

    def is_finished(self) -> bool:
        return self.state.is_finished(self.config.training)

    def expected_iterations(self) -> int:
        """Return the number of steps at which training will end: `train_iters`, or fewer at the pace so far."""
        training, state = self.config.training, self.state
        if not training.train_seconds or not state.seconds:
            return training.train_iters
        return min(training.train_iters, max(state.iteration, round(state.iteration * training.train_seconds / state.seconds)))

    def save_now(self) -> None:
        self.watchdog.suspend("saving a checkpoint")
        self.save(self.state)
        self.watchdog.beat()
        self.last_save = time.monotonic()

    def is_stop_requested(self) -> bool:
        """True on all ranks alike if one of them was asked to stop."""
        return any_rank(self.stop.is_requested, self.grid.device)

    def follow_request(self, result: StepResult, rate: float, is_saved: bool) -> None:
        """Save before the run ends early, unless this step is saved already."""
        self.stop.was_followed = True
        if self.interval.steps:
            self.report(result, rate)
        save = self.config.training.save
        if save and not is_saved and self.guard.is_loss_finite:
            self.save_now()
            is_saved = True
        reason = "the loss is not finite" if save else "save is not set"
        log.info(
            "stopped by a signal at iteration %d, %s (exit status %d)",
            self.state.iteration,
            f"saved in {save}" if is_saved else f"not saved: {reason}",
            EXIT_RESUME,
        )

    @property
    def tokens_per_step(self) -> int:
        return self.sizes.train_batch_size * self.config.model.sample_length

    def one_step(self, batches: Iterator[Batch]) -> tuple[StepResult, float]:
        """One optimizer step at the schedule's learning rate; returns both."""
        updates = self.state.iteration - self.state.skipped_steps
        training = self.config.training
        position = schedule_position(updates, training.train_iters, self.state.seconds, training.train_seconds)
        rate = scheduled_rate(position, self.config.optimizer, training.train_iters)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        if self.config.model.hidden_dropout or self.config.model.attention_dropout:
            seed_dropout(self.config.training.seed, self.grid, self.state.iteration)
        result = self.step(self.engine, batches, self.grid)
        self.state.advance(self.sizes.train_batch_size, self.tokens_per_step, result.skipped)
        if training.train_seconds:
            self.state.seconds = from_rank_zero(time.monotonic() - self.time_origin, self.grid.device)
        self.interval.steps += 1
        self.interval.losses += [result.loss] if math.isfinite(result.loss) else []
        self.interval.skipped += result.skipped
        self.guard.check(self.state.iteration, result)
        return result, rate

    def is_save_due(self) -> bool:
        """By the count of steps, by the list of extra steps, or by rank zero's clock."""
        training, iteration = self.config.training, self.state.iteration
        if iteration in training.extra_save_iters or is_multiple(iteration, training.checkpoint_factor):
            return True
        if training.checkpoint_interval_seconds is None:
            return False
        is_time = time.monotonic() - self.last_save >= training.checkpoint_interval_seconds
        return any_rank(is_rank_zero() and is_time, self.grid.device)

    def maybe_evaluate(self, name: str, loader: BatchLoader | None) -> None:
        """The loss on data that is not trained on, where there is some."""
        count = self.config.training.eval_iters
        if loader is not None and count:
            self.watchdog.suspend(f"the first batch of the {name}")
            loss = validate(self.engine, self.evaluate, loader, count, self.grid, self.watchdog.beat, self.is_stop_requested)
            if loss is None:
                if not self.is_stop_requested():
                    log.warning("%s at iteration %d | no token counts in the loss: all are masked", name, self.state.iteration)
                return
            perplexity = math.exp(min(loss, 80))
            log.info("%s at iteration %d | loss %.4f | perplexity %.2f", name, self.state.iteration, loss, perplexity)
            self.track({f"{name}/lm_loss": loss, f"{name}/lm_loss_ppl": perplexity})

    def report(self, result: StepResult, rate: float) -> None:
        """The log line of an interval, and the same figures to the trackers; begins the next interval."""
        interval, self.interval = self.interval, Interval()
        steps, length = interval.steps, self.config.model.sample_length
        loss = sum(interval.losses) / len(interval.losses) if interval.losses else math.nan
        tokens_per_second = steps * self.tokens_per_step / interval.seconds
        per_rank = tokens_per_second / self.grid.world_size
        utilization = model_flops_utilization(self.config, self.padded_vocab_size, per_rank, self.peak_tflops)
        parts = [
            f"iteration {self.state.iteration}",
            f"loss {loss:.4f}",
            f"lr {rate:.2e}",
            f"{per_rank:,.0f} tokens/s/{'GPU' if self.grid.device.type == 'cuda' else 'rank'}",
            None if utilization is None else f"{100 * utilization:.1f}% MFU",
            f"{memory_gib():.2f} GiB",
            f"{interval.skipped} steps skipped (gradient not finite)" if interval.skipped else None,
        ]
        log.info("%s", " | ".join(filter(None, parts)))
        scalars = {
            "train/lm_loss": loss,
            "train/learning_rate": rate,
            "train/grad_norm": result.gradient_norm,
            "train/skipped_steps": self.state.skipped_steps,
            "train/consumed_samples": self.state.consumed_samples,
            "train/consumed_tokens": self.state.consumed_tokens,
            "runtime/tokens_per_sec": tokens_per_second,
            "runtime/samples_per_sec": tokens_per_second / length,
            "runtime/iteration_time": interval.seconds / steps,
            "runtime/model_flops_utilization": utilization,
            "runtime/memory_gib": memory_gib(),
        }
        self.track({name: value for name, value in scalars.items() if value is not None and math.isfinite(value)})

    def track(self, scalars: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(self.state.iteration, scalars)


def is_multiple(iteration: int, interval: int | None) -> bool:
    """Whether an interval ends here; no interval never does."""
    return bool(interval) and iteration % interval == 0
