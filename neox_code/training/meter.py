"""Measure a run: its figures are logged once per interval of steps and after validation, and passed to the trackers.

meter = Meter(config, sizes, padded_vocab_size, grid, trackers)
meter.begin_interval()
meter.add_step(result)                        # after each step
meter.report(state, result, rate)          # one log line for the steps since the last
with meter.exclude_time(): ...             # validation and saves do not count in the speed
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.data.batch import Batch
from neox_code.logs import get_logger
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.state import TrainingState
from neox_code.training.step import StepResult
from neox_code.training.throughput import compute_flops_utilization, find_peak_tflops, read_peak_memory_gib
from neox_code.training.trackers import Tracker
from neox_code.training.validation import Evaluation

log = get_logger(__name__)


@dataclass
class LogInterval:
    """The steps since the last log line."""

    begin: float = field(default_factory=time.monotonic)
    """Start of the interval in seconds of the monotonic clock, plus the time that is excluded (validation, saves)."""
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    """The finite losses of the steps in the interval."""
    skipped: int = 0
    tokens: int = 0
    data_wait_seconds: float = 0.0
    """Seconds in which this rank waited for batches."""

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.begin, 1e-9)


class Meter:
    def __init__(
        self, config: NeoXConfig, sizes: BatchSizes, padded_vocab_size: int, grid: ParallelGrid, trackers: Sequence[Tracker]
    ):
        self.model, self.padded_vocab_size, self.grid, self.trackers = config.model, padded_vocab_size, grid, trackers
        self.tokens_per_step = sizes.train_batch_size * config.model.sample_length
        self.peak_tflops = find_peak_tflops(config)
        self.begin_interval()

    def begin_interval(self) -> None:
        self.interval = LogInterval()

    def add_step(self, result: StepResult) -> None:
        """Add a step to the interval."""
        self.interval.steps += 1
        self.interval.tokens += self.tokens_per_step
        self.interval.losses += [result.loss] if math.isfinite(result.loss) else []
        self.interval.skipped += result.skipped

    def measure_waits(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches and add the time that this rank waits for them to the interval."""
        while True:
            begin = time.monotonic()
            batch = next(batches, None)
            self.interval.data_wait_seconds += time.monotonic() - begin
            if batch is None:
                return
            yield batch

    @contextmanager
    def exclude_time(self) -> Iterator[None]:
        """Leave the time in this context out of the interval."""
        begin = time.monotonic()
        yield
        self.interval.begin += time.monotonic() - begin

    def report(self, state: TrainingState, result: StepResult, rate: float, more: Mapping[str, float | None]) -> None:
        """Log the interval and pass its figures to the trackers; begin the next interval.

        `result` and `rate` are the loss, gradient norm and learning rate of the last step, `more` further figures of it.
        """
        interval = self.interval
        self.begin_interval()
        loss = sum(interval.losses) / len(interval.losses) if interval.losses else math.nan
        tokens_per_second = interval.tokens / interval.seconds
        per_rank = tokens_per_second / self.grid.world_size
        utilization = compute_flops_utilization(self.model, self.padded_vocab_size, per_rank, self.peak_tflops)
        parts = [
            f"iteration {state.iteration}",
            f"loss {loss:.4f}",
            f"lr {rate:.2e}",
            f"{per_rank:,.0f} tokens/s/{'GPU' if self.grid.device.type == 'cuda' else 'rank'}",
            None if utilization is None else f"{100 * utilization:.1f}% MFU",
            f"{read_peak_memory_gib():.2f} GiB",
            f"{interval.skipped} steps skipped (gradient not finite)" if interval.skipped else None,
        ]
        log.info("%s", " | ".join(filter(None, parts)))
        scalars = {
            "train/lm_loss": loss,
            "train/learning_rate": rate,
            "train/grad_norm": result.gradient_norm,
            "train/skipped_steps": state.skipped_steps,
            "train/consumed_samples": state.consumed_samples,
            "train/consumed_tokens": state.consumed_tokens,
            "runtime/tokens_per_sec": tokens_per_second,
            "runtime/samples_per_sec": tokens_per_second / self.model.sample_length,
            "runtime/iteration_time": interval.seconds / interval.steps,
            "runtime/model_flops_utilization": utilization,
            "runtime/memory_gib": read_peak_memory_gib(),
            "runtime/data_wait": interval.data_wait_seconds / interval.seconds,
            **more,
        }
        self.log_to_trackers(state, {name: value for name, value in scalars.items() if value is not None and math.isfinite(value)})

    def report_evaluation(self, state: TrainingState, name: str, evaluation: Evaluation | None) -> None:
        """Log the loss on validation or test data in nats per token and the bits per byte, and pass them to the trackers.

        `evaluation` is None if all tokens are masked.
        """
        if evaluation is None:
            log.warning("%s at iteration %d | no loss: all tokens are masked", name, state.iteration)
            return
        loss, bits = evaluation
        perplexity = math.exp(min(loss, 80))
        scalars = {f"{name}/lm_loss": loss, f"{name}/lm_loss_ppl": perplexity}
        if bits is not None:
            scalars[f"{name}/bits_per_byte"] = bits
        by_bytes = "" if bits is None else f" | {bits:.4f} bits/byte"
        log.info("%s at iteration %d | loss %.4f | perplexity %.2f%s", name, state.iteration, loss, perplexity, by_bytes)
        self.log_to_trackers(state, scalars)

    def log_to_trackers(self, state: TrainingState, scalars: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(state.iteration, scalars)

    def rewind(self, state: TrainingState) -> None:
        """Begin an interval at an earlier state. Rows of the trackers after it are removed where this is possible."""
        self.begin_interval()
        for tracker in self.trackers:
            tracker.rewind(state.iteration)

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()
