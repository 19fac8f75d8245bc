"""Detect faulty steps: a loss or a gradient that is not finite, or a loss far above the recent losses.

A step whose gradient is not finite changes no weight in any precision. One such step is logged and counted; `max_skipped_steps`
in a row end the run. After a loss that is not finite no checkpoint is written. A loss spike is logged and counted; with
`max_spike_steps` a long one ends the run, and no checkpoint is written in it. With `max_rewinds` training returns to its newest
checkpoint instead (`Run.rewind`).
"""

import math
import statistics
from collections import deque
from collections.abc import Callable

from neox_code.config.neox import NeoXConfig
from neox_code.errors import DataError, NeoXError
from neox_code.logs import get_logger, is_rank_zero
from neox_code.training.step import StepResult

log = get_logger(__name__)

SKIPPED_STEPS = {"fp16": 50}
"""Precision -> default of `max_skipped_steps`, as in GPT-NeoX. In fp16 the first steps are skipped until the loss scale fits."""

SKIPPED_STEPS_OF_OTHERS = 5

RECENT_LOSSES, FEWEST_LOSSES = 64, 8
"""Maximum and minimum number of recent losses with which a new loss is compared."""


class DivergedError(NeoXError):
    """Training has diverged: too many steps without an update, or too long a loss spike."""


class LossGuard:
    """A check of each step's loss and gradient norm. Both are computed over all ranks, so that every rank decides the same."""

    def __init__(self, config: NeoXConfig):
        self.config = config
        precision = config.model.precision
        self.limit = config.training.max_skipped_steps or SKIPPED_STEPS.get(precision, SKIPPED_STEPS_OF_OTHERS)
        self.max_spike_steps = config.training.max_spike_steps
        self.num_spike_steps = 0
        """Number of steps in loss spikes since the start of this process."""
        self.begin()

    def begin(self) -> None:
        """Forget all losses: training begins, or returned to a checkpoint."""
        self.in_a_row = self.spike_steps = 0
        self.recent: deque[float] = deque(maxlen=RECENT_LOSSES)
        self.is_loss_finite = True

    @property
    def is_safe_to_save(self) -> bool:
        """True if the last loss is finite and, with `max_spike_steps`, not in a spike."""
        return self.is_loss_finite and not (self.max_spike_steps and self.spike_steps)

    def check(self, iteration: int, result: StepResult, describe_documents: Callable[[], str] | None = None) -> None:
        """Log a faulty step. Raise DivergedError after too many faulty steps in a row.

        `describe_documents` returns the documents of the step's batch, which are logged for a spike or a loss that is not finite.
        """
        self.is_loss_finite = math.isfinite(result.loss)
        if self.is_loss_finite and not result.skipped:
            self.in_a_row = 0
            if self.check_spike(iteration, result.loss):
                self.log_documents(iteration, describe_documents)
            return
        self.in_a_row += 1
        if not self.is_loss_finite and self.in_a_row == 1:
            self.log_documents(iteration, describe_documents)
        fault = f"the gradient norm is not finite (loss {result.loss:.4f})" if self.is_loss_finite else f"the loss is {result.loss}"
        if self.in_a_row >= self.limit:
            raise DivergedError(
                f"{fault} at iteration {iteration}, {self.in_a_row} steps in a row without an update "
                f"(max_skipped_steps {self.limit}): training has diverged, or its data or device is faulty. {self.format_remedy()}"
            )
        if self.config.model.precision != "fp16" or not self.is_loss_finite:  # fp16 overflows while it looks for its loss scale
            effect = "the update is skipped" if result.skipped else "the gradient is finite, the update is made"
            log.warning("iteration %d | %s: %s (%d in a row of at most %d)", iteration, fault, effect, self.in_a_row, self.limit)

    def log_documents(self, iteration: int, describe_documents: Callable[[], str] | None) -> None:
        """Log the documents of a faulty step's batch on rank 0, and the command that lists them all."""
        if describe_documents is None or not is_rank_zero():
            return
        try:
            documents = describe_documents()
        except (DataError, OSError) as error:
            documents = f"unknown documents ({error})"
        save = self.config.training.save
        remedy = f"; all: python tools/which_documents.py {save} {iteration}" if save else ""
        log.warning("iteration %d | its batch has %s%s", iteration, documents, remedy)

    def check_spike(self, iteration: int, loss: float) -> bool:
        """Log a finite loss that exceeds the median of recent losses by 10% and by 6 standard deviations (estimated from
        medians). Return True at the first step of a spike. Raise DivergedError if a spike lasts too long."""
        if len(self.recent) >= FEWEST_LOSSES:
            usual = statistics.median(self.recent)
            deviation = 1.4826 * statistics.median(abs(other - usual) for other in self.recent)
            is_spike = loss > usual + max(6 * deviation, 0.1 * abs(usual))
            self.spike_steps = self.spike_steps + 1 if is_spike else 0
            self.num_spike_steps += is_spike
            figures = f"{loss:.4f}, median of the last {len(self.recent)} losses: {usual:.4f}"
            if self.max_spike_steps and self.spike_steps >= self.max_spike_steps:
                raise DivergedError(
                    f"loss spike at iteration {iteration}: {figures}, {self.spike_steps} steps in a row (max_spike_steps "
                    f"{self.max_spike_steps}). {self.format_remedy()}"
                )
            if self.spike_steps == 1:
                log.warning("iteration %d | loss spike: %s", iteration, figures)
        self.recent.append(loss)
        return self.spike_steps == 1

    def require_finite_loss(self, iteration: int) -> None:
        """Raise NeoXError if the loss of the last step is not finite, so that nothing is saved after it."""
        if not self.is_loss_finite:
            raise NeoXError(f"the loss is not finite at the last iteration ({iteration}): nothing is saved. {self.format_remedy()}")

    def format_remedy(self) -> str:
        """Return the remedy for a diverged run, as sentences."""
        save, lr = self.config.training.save, self.config.optimizer.lr
        change = f"with a lower lr ({lr}), a longer warmup, or stronger gradient_clipping"
        if save is None:
            return f"Start again {change}."
        return (
            f"Start from an earlier checkpoint, {change}: load: {save}, iteration: a step before the loss went wrong, and another "
            f"folder for save, since checkpoints in {save} are never replaced; or start from scratch with another save."
        )
