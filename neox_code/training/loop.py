"""The training loop. A step's order is learning rate, step, log line, validation, checkpoint; after the last step, the test data.

    state = Run(config, sizes, grid, engine, loaders, state, meter, checkpoints, guard, stop).run_to_the_end()

Every rank runs the same steps. If a decision depends on one rank (its clock, its signals), all ranks first exchange its value.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.data.batch import Batch
from neox_code.data.loaders import BatchLoader, Loaders
from neox_code.data.order_log import describe_batch
from neox_code.errors import EXIT_RESUME
from neox_code.launch.stop_signals import StopRequest
from neox_code.logs import get_logger, progress
from neox_code.parallel.collectives import broadcast_from_rank_zero, is_true_on_any_rank
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.seeds import seed_dropout
from neox_code.training.checkpoints import Checkpoints
from neox_code.training.engine import Engine
from neox_code.training.loss_guard import LossGuard
from neox_code.training.meter import Meter
from neox_code.training.schedule import compute_schedule_position, compute_scheduled_rate
from neox_code.training.state import TrainingState
from neox_code.training.step import StepResult, choose_step_functions
from neox_code.training.validation import validate
from neox_code.watchdog.watchdog import Watchdog

log = get_logger(__name__)

LOGGED_DOCUMENTS = 5
"""Maximum number of documents that are named in the log after a loss spike."""


@dataclass
class Run:
    """A training run that begins at `state`."""

    config: NeoXConfig
    sizes: BatchSizes
    grid: ParallelGrid
    engine: Engine
    loaders: Loaders
    state: TrainingState
    meter: Meter
    checkpoints: Checkpoints
    guard: LossGuard
    stop: StopRequest
    """The stop signals of this rank. After a signal on any rank, all ranks finish the step, save and return."""

    def run_to_the_end(self) -> TrainingState:
        """Train until `train_iters`, `train_seconds` or `exit_interval`; save as configured and at the end; return the last state.

        Raise NeoXError if losses or gradients are non-finite for too many steps (see `LossGuard`).
        """
        training, state = self.config.training, self.state
        self.step, self.evaluate = choose_step_functions(self.engine)
        batches = iter(self.loaders.train)
        log.info(
            "training from iteration %d to %d%s, %s tokens a step",
            state.iteration,
            training.train_iters,
            f" or {training.train_seconds - state.seconds:.0f} s" if training.train_seconds else "",
            f"{self.meter.tokens_per_step:,}",
        )
        self.time_origin = time.monotonic() - state.seconds
        self.watchdog = Watchdog(self.config.parallelism.hang_timeout_seconds, self.grid)
        self.stop.defer(self.config.parallelism.stop_timeout_seconds)
        bar = progress("training", training.train_iters, " steps", every_seconds=60, done=state.iteration)
        with self.watchdog, bar as advance:
            self.meter.begin_interval()
            while not state.is_finished(training):
                result, rate = self.run_one_step(batches)
                self.watchdog.record_progress()
                advance(1, total=self.expected_iterations())
                is_last = state.is_finished(training) or state.is_multiple_of(training.exit_interval)
                if is_last or state.is_multiple_of(training.log_interval):
                    self.meter.report(state, result, rate)
                with self.meter.exclude_time():
                    if is_last or state.is_multiple_of(training.eval_interval):
                        self.maybe_evaluate("validation", self.loaders.valid)
                        self.evaluate_languages()
                    if is_last:
                        self.guard.require_finite_loss(state.iteration)
                    is_saved = self.checkpoints.is_due(state, is_last, self.guard.is_loss_finite)
                    if is_saved:
                        self.save()
                    if state.is_finished(training):
                        self.maybe_evaluate("test", self.loaders.test)
                if is_last:
                    break
                if self.is_stop_requested():
                    self.end_early(result, rate, is_saved)
                    break
        return state

    def expected_iterations(self) -> int:
        """Return the estimated last step: `train_iters`, or less if `train_seconds` ends training earlier at the current speed."""
        training, state = self.config.training, self.state
        if not training.train_seconds or not state.seconds:
            return training.num_steps
        return min(training.num_steps, max(state.iteration, round(state.iteration * training.train_seconds / state.seconds)))

    def run_one_step(self, batches: Iterator[Batch]) -> tuple[StepResult, float]:
        """Make one optimizer step. Return its result and its learning rate."""
        updates = self.state.iteration - self.state.skipped_steps
        training, model = self.config.training, self.config.model
        position = compute_schedule_position(updates, training.num_steps, self.state.seconds, training.train_seconds)
        rate = compute_scheduled_rate(position, self.config.optimizer, training.num_steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        if model.hidden_dropout or model.attention_dropout:
            seed_dropout(training.seed, self.grid, self.state.iteration)
        result = self.step(self.engine, batches, self.grid)
        describe_documents = partial(
            describe_batch, self.loaders.train.dataset, self.state.consumed_samples, self.sizes, LOGGED_DOCUMENTS
        )
        self.state.advance(self.sizes.train_batch_size, self.meter.tokens_per_step, result.skipped)
        if training.train_seconds:
            self.state.seconds = broadcast_from_rank_zero(time.monotonic() - self.time_origin, self.grid.device)
        self.meter.add_step(result)
        self.guard.check(self.state.iteration, result, describe_documents)
        return result, rate

    def maybe_evaluate(self, name: str, loader: BatchLoader | None) -> None:
        """Log the loss on validation or test data (`name`), if there is a loader and `eval_iters` is not 0."""
        if loader is not None and self.config.training.eval_iters:
            self.evaluate_batches(name, loader, self.config.training.eval_iters)

    def evaluate_languages(self) -> None:
        """Log the loss on the validation data of each language, with `valid_by_language`."""
        loader = self.loaders.valid_languages
        for own in self.loaders.language_ranges:
            if loader is None or self.is_stop_requested():
                return
            self.evaluate_batches(f"validation/{own.language}", loader, own.num_batches, own.first_sample)

    def evaluate_batches(self, name: str, loader: BatchLoader, count: int, first_sample: int = 0) -> None:
        """Evaluate `count` batches and log the result, unless a stop is requested."""
        self.watchdog.suspend(f"the first batch of the {name}")
        advance, token_bytes = self.watchdog.record_progress, self.loaders.token_bytes
        evaluation = validate(
            self.engine, self.evaluate, loader, count, self.grid, advance, self.is_stop_requested, token_bytes, first_sample
        )
        if evaluation is not None or not self.is_stop_requested():
            self.meter.report_evaluation(self.state, name, evaluation)

    def save(self) -> None:
        self.watchdog.suspend("saving a checkpoint")
        self.checkpoints.save(self.engine, self.state)
        self.watchdog.record_progress()

    def is_stop_requested(self) -> bool:
        """Return True on all ranks if at least one rank received a stop signal."""
        return is_true_on_any_rank(self.stop.is_requested, self.grid.device)

    def end_early(self, result: StepResult, rate: float, is_saved: bool) -> None:
        """Log the last step and save a checkpoint after it, if this is not done yet."""
        self.stop.was_followed = True
        if self.meter.interval.steps:
            self.meter.report(self.state, result, rate)
        save = self.config.training.save
        if save and not is_saved and self.guard.is_loss_finite:
            self.save()
            is_saved = True
        reason = "the loss is not finite" if save else "save is not set"
        log.info(
            "stopped by a signal at iteration %d, %s (exit status %d)",
            self.state.iteration,
            f"saved in {save}" if is_saved else f"not saved: {reason}",
            EXIT_RESUME,
        )
