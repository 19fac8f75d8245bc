"""The training loop. A step's order is learning rate, step, log line, validation, checkpoint; after the last step, the test data.

    state = Run(config, sizes, grid, engine, loaders, state, meter, checkpoints, guard, stop).run_to_the_end()

Every rank runs the same steps. If a decision depends on one rank (its clock, its signals), all ranks first exchange its value.
"""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from neox_code.config.derive import BatchSizes, compute_batch_size
from neox_code.config.neox import NeoXConfig
from neox_code.data.batch import Batch, copy_ahead
from neox_code.data.loaders import BatchLoader, Loaders
from neox_code.data.order_log import describe_batch, record_move
from neox_code.errors import EXIT_RESUME
from neox_code.launch.stop_signals import StopRequest
from neox_code.logs import get_logger, is_rank_zero, progress
from neox_code.parallel.collectives import broadcast_from_rank_zero, is_true_on_any_rank
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.seeds import seed_adapters
from neox_code.training.checkpoints import Checkpoints
from neox_code.training.engine import Engine, reads_late, set_batch_sizes, set_rate
from neox_code.training.loss_guard import DivergedError, LossGuard
from neox_code.training.meter import Meter
from neox_code.training.parameter_norm import compute_parameter_norm
from neox_code.training.profile import Profile
from neox_code.training.schedule import compute_schedule_position, compute_scheduled_rate
from neox_code.training.state import TrainingState
from neox_code.training.step import ReadResult, choose_step_functions
from neox_code.training.validation import validate
from neox_code.training.weight_average import WeightAverage, drop_average
from neox_code.watchdog.watchdog import Watchdog

log = get_logger(__name__)

LOGGED_DOCUMENTS = 5
"""Maximum number of documents that are named in the log after a loss spike."""


@contextmanager
def collect_garbage_by_hand(interval: int) -> Iterator[Callable[[int], None]]:
    """Disable Python's garbage collector. Yield a function of the iteration, which collects garbage every `interval` steps.

    Otherwise each rank would stop at another moment, and all others would wait for it. With `interval` 0 nothing is changed.
    """

    def maybe_collect(iteration: int) -> None:
        if interval and iteration % interval == 0:
            gc.collect()

    if not interval:
        yield maybe_collect
        return
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield maybe_collect
    finally:
        gc.enable()
        gc.unfreeze()


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
    num_rewinds: int = 0
    """Number of times that this process returned to a checkpoint."""

    def run_to_the_end(self) -> TrainingState:
        """Train until `train_iters`, `train_seconds` or `exit_interval`; save as configured and at the end; return the last state.

        Raise NeoXError if training diverges and may not return to a checkpoint (see `LossGuard`).
        """
        training, state = self.config.training, self.state
        self.profile = Profile(training, self.grid.rank)
        self.step, self.evaluate = choose_step_functions(self.engine)
        self.average = self.build_average()
        self.full_tokens, self.last_batch = self.meter.tokens_per_step, 0
        self.unread: deque[tuple[int, ReadResult, Callable[[], str]]] = deque()
        batches = self.read_batches()
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
        collecting = collect_garbage_by_hand(training.gc_interval)
        with self.watchdog, bar as advance, collecting as maybe_collect, self.checkpoints.finishing(self.suspend_for_save):
            if training.finetune and state.iteration == 0:
                self.maybe_evaluate("validation/start", self.loaders.valid)
            self.meter.begin_interval()
            while not state.is_finished(training):
                try:
                    is_end = self.run_iteration(batches)
                except DivergedError as failure:
                    batches = self.rewind(failure)
                    continue
                maybe_collect(state.iteration)
                advance(1, total=self.expected_iterations())
                if is_end:
                    break
        return state

    def build_average(self) -> WeightAverage | None:
        """Return the average of the weights if the configuration keeps one. Otherwise remove that of the checkpoint."""
        decay = self.config.optimizer.average_decay
        if decay is None:
            drop_average(self.engine)
            return None
        return WeightAverage(self.engine, decay)

    def run_iteration(self, batches: Iterator[Batch]) -> bool:
        """Make a step and all that is due after it. Return True if the run ends. Raise DivergedError."""
        training, state = self.config.training, self.state
        self.profile.begin_step(state.iteration + 1)
        rate = self.run_one_step(batches)
        self.profile.end_step(state.iteration)
        self.watchdog.record_progress()
        is_last = state.is_finished(training) or state.is_multiple_of(training.exit_interval)
        if is_last or state.is_multiple_of(training.log_interval):
            self.read_results()
            self.report(rate)
        with self.meter.exclude_time():
            if is_last or state.is_multiple_of(training.eval_interval):
                self.maybe_evaluate("validation", self.loaders.valid)
                self.evaluate_languages()
                is_last = is_last or self.state.is_finished(training)
                if self.average is not None:
                    with self.average.exchanged():
                        self.maybe_evaluate("validation/average", self.loaders.valid)
                self.maybe_evaluate("validation/unseen", self.loaders.unseen)
            if is_last:
                self.guard.require_finite_loss(state.iteration)
            is_saved = self.maybe_save(is_last)
            if state.is_finished(training):
                self.maybe_evaluate("test", self.loaders.test)
        if is_last:
            self.stop.was_followed = not state.is_finished(training)
            return True
        if self.is_stop_requested():
            self.end_early(rate, is_saved)
            return True
        return False

    def read_batches(self) -> Iterator[Batch]:
        """Return the next batches, copied to the device ahead of their use; the time that this rank waits for them is measured."""
        return self.meter.measure_waits(copy_ahead(iter(self.loaders.train), self.grid.device))

    def expected_iterations(self) -> int:
        """Return the estimated last step: `train_iters`, or less if `train_seconds` ends training earlier at the current speed."""
        training, state = self.config.training, self.state
        if not training.train_seconds or not state.seconds:
            return training.num_steps
        return min(training.num_steps, max(state.iteration, round(state.iteration * training.train_seconds / state.seconds)))

    def run_one_step(self, batches: Iterator[Batch]) -> float:
        """Make one optimizer step. Return its learning rate. `read_results` reads its result, at once or one step later."""
        updates = self.state.iteration - self.state.skipped_steps
        training = self.config.training
        rate = self.compute_rate(updates)
        sizes = self.choose_batch_sizes()
        set_rate(self.engine, rate, self.compute_rate(updates - 1) if self.unread else rate)
        if self.config.adapter.is_random:
            seed_adapters(training.seed, self.grid, self.state.iteration)
        read = self.step(self.engine, batches, self.grid)
        if self.average is not None:
            self.average.update()
        describe_documents = partial(
            describe_batch, self.loaders.train.dataset, self.state.consumed_samples, sizes, LOGGED_DOCUMENTS
        )
        self.state.advance(sizes.train_batch_size, self.meter.tokens_per_step)
        self.unread.append((self.state.iteration, read, describe_documents))
        if training.train_seconds:
            self.state.seconds = broadcast_from_rank_zero(time.monotonic() - self.time_origin)
        self.read_results(1 if reads_late(self.engine) else 0)
        return rate

    def choose_batch_sizes(self) -> BatchSizes:
        """Set the batch size of the next step, which `rampup_batch_size` changes, and return it."""
        training, state = self.config.training, self.state
        if training.rampup_batch_size is None:
            return self.sizes
        batch = compute_batch_size(state.consumed_samples, self.sizes.train_batch_size, training.rampup_batch_size)
        accumulation = batch // (self.sizes.micro_batch_size * self.grid.data_size)
        sizes = BatchSizes(batch, self.sizes.micro_batch_size, accumulation)
        set_batch_sizes(self.engine, sizes)
        self.meter.tokens_per_step = round(self.full_tokens * batch / self.sizes.train_batch_size)
        if batch != self.last_batch:
            log.info("iteration %d | the batch size is %d samples", state.iteration + 1, batch)
            if training.save and is_rank_zero():
                record_move(training.save, state.iteration, state.consumed_samples, batch)
            self.last_batch = batch
        return sizes

    def compute_rate(self, updates: int) -> float:
        """Return the learning rate after `updates` updates, at the current time."""
        training = self.config.training
        position = compute_schedule_position(updates, training.num_steps, self.state.seconds, training.train_seconds)
        return compute_scheduled_rate(position, self.config.optimizer, training.num_steps)

    def read_results(self, left: int = 0) -> None:
        """Read, count and check the results of the steps, except the `left` last ones, which a GPU may still compute."""
        while len(self.unread) > left:
            iteration, read, describe_documents = self.unread.popleft()
            self.result = read()
            self.state.skipped_steps += self.result.skipped
            self.meter.add_step(self.result)
            self.guard.check(iteration, self.result, describe_documents)

    def maybe_save(self, is_last: bool) -> bool:
        """Save if a checkpoint is due, and all losses so far are finite and in no spike. Return True if it was saved."""
        if not self.checkpoints.is_due(self.state, is_last, is_last or self.guard.is_safe_to_save):
            return False
        self.read_results()
        if not (is_last or self.guard.is_safe_to_save):
            self.checkpoints.is_postponed = True
            return False
        self.save()
        return True

    def rewind(self, failure: DivergedError) -> Iterator[Batch]:
        """Load the newest checkpoint; return the batches after those that were read. Raise `failure` if this is not allowed."""
        before, state = self.state.iteration, self.state
        self.num_rewinds += 1
        self.watchdog.suspend("returning to a checkpoint")
        if self.num_rewinds > self.config.training.max_rewinds or not self.checkpoints.rewind(self.engine, self.loaders, state):
            raise failure
        message = "iteration %d | %s Training returns to iteration %d and skips the samples since (max_rewinds: %d of %d)"
        log.warning(message, before, failure, state.iteration, self.num_rewinds, self.config.training.max_rewinds)
        self.meter.rewind(state)
        self.average = self.build_average()
        self.guard.begin()
        self.unread.clear()
        self.watchdog.record_progress()
        return self.read_batches()

    def report(self, rate: float) -> None:
        """Log the steps since the last report, with the norm of the weights."""
        norm = compute_parameter_norm(self.engine.module, self.grid)
        self.meter.report(
            self.state, self.result, rate, {"train/param_norm": norm, "train/spike_steps": self.guard.num_spike_steps}
        )

    def maybe_evaluate(self, name: str, loader: BatchLoader | None) -> None:
        """Log the loss on validation or test data (`name`), if there is a loader and `eval_iters` is not 0."""
        if loader is not None and self.config.training.eval_iters:
            count = min(self.config.training.eval_iters, len(loader.dataset) // self.sizes.train_batch_size)
            self.evaluate_batches(name, loader, count)

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
        set_batch_sizes(self.engine, self.sizes)
        advance, token_bytes = self.watchdog.record_progress, self.loaders.token_bytes
        evaluation = validate(
            self.engine, self.evaluate, loader, count, self.grid, advance, self.is_stop_requested, token_bytes, first_sample
        )
        if evaluation is not None or not self.is_stop_requested():
            self.meter.report_evaluation(self.state, name, evaluation)
        if evaluation is not None and name == "validation":
            self.state.record_validation(evaluation.loss)
            if self.state.is_finished(self.config.training) and self.state.evaluations_since_best:
                best = f"{self.state.best_loss:.4f}, at iteration {self.state.best_iteration}"
                log.info("iteration %d | the lowest loss of a validation is %s", self.state.iteration, best)

    def suspend_for_save(self) -> None:
        self.watchdog.suspend("completing a checkpoint")

    def save(self) -> None:
        self.watchdog.suspend("saving a checkpoint")
        self.checkpoints.save(self.engine, self.state)
        self.watchdog.record_progress()

    def is_stop_requested(self) -> bool:
        """Return True on all ranks if at least one rank received a stop signal, or its `exit_duration` is over."""
        return is_true_on_any_rank(self.stop.is_requested or self.is_duration_over)

    @property
    def is_duration_over(self) -> bool:
        """True on rank 0 if `exit_duration` minutes have passed since the start of the ranks."""
        minutes = self.config.training.exit_duration
        return minutes is not None and self.grid.rank == 0 and time.monotonic() - self.stop.created >= 60 * minutes

    def end_early(self, rate: float, is_saved: bool) -> None:
        """Log the last step and save a checkpoint after it, if this is not done yet."""
        self.stop.was_followed = True
        self.read_results()
        if self.meter.interval.steps:
            self.report(rate)
        save = self.config.training.save
        if save and not is_saved and self.guard.is_loss_finite:
            self.save()
            is_saved = True
        self.suspend_for_save()
        self.checkpoints.finish()
        reason = "the loss is not finite" if save else "save is not set"
        log.info(
            "stopped by %s at iteration %d, %s (exit status %d)",
            f"exit_duration ({self.config.training.exit_duration:g} min)" if self.is_duration_over else "a signal",
            self.state.iteration,
            f"saved in {save}" if is_saved else f"not saved: {reason}",
            EXIT_RESUME,
        )
