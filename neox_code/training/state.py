"""The training state of a run, besides weights and optimizer state: counts of steps, samples and tokens, and the time spent."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neox_code.checkpoint.record import BEST_ITERATION
from neox_code.config.training import TrainingConfig


@dataclass
class TrainingState:
    iteration: int = 0
    """Number of training steps done. Steps without an update of the weights are included."""
    consumed_samples: int = 0
    """Number of samples read by all ranks together. Samples of another length are converted to the current sample length."""
    consumed_tokens: int = 0
    """Number of tokens read by all ranks together."""
    skipped_steps: int = 0
    """Number of steps without an update, because the gradient was not finite. Such steps do not advance the learning rate."""
    seconds: float = 0.0
    """Seconds in the training loop, including validation and saves, by rank 0's clock. Counted only if `train_seconds` is set."""
    best_loss: float = field(default=math.inf, repr=False)
    """Lowest loss of a validation so far."""
    best_iteration: int = field(default=0, repr=False)
    """Iteration of this validation."""
    evaluations_since_best: int = field(default=0, repr=False)
    """Number of validations after it."""

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "TrainingState":
        """Return the state stored in a checkpoint (the inverse of `as_dict`). An empty mapping gives the state of a new run.

        GPT-NeoX stores the number of samples under DeepSpeed's key `global_samples`. Older versions stored no number of tokens.
        """
        samples = int(state.get("consumed_samples", state.get("global_samples", 0)))
        iteration, tokens, skipped = (int(state.get(key, 0)) for key in ("iteration", "consumed_tokens", "skipped_iterations"))
        best = (
            float(state.get("best_loss", math.inf)),
            int(state.get(BEST_ITERATION, 0)),
            int(state.get("evaluations_since_best", 0)),
        )
        return cls(iteration, samples, tokens, skipped, float(state.get("training_seconds", 0.0)), *best)

    def as_dict(self) -> dict[str, float]:
        """Return the state for a checkpoint. DeepSpeed reserves the key `skipped_steps`, so another key is used."""
        best = {
            "best_loss": self.best_loss,
            BEST_ITERATION: self.best_iteration,
            "evaluations_since_best": self.evaluations_since_best,
        }
        return (best if self.best_iteration else {}) | {
            "iteration": self.iteration,
            "consumed_samples": self.consumed_samples,
            "consumed_tokens": self.consumed_tokens,
            "skipped_iterations": self.skipped_steps,
            "training_seconds": self.seconds,
        }

    def is_finished(self, training: TrainingConfig) -> bool:
        """Return True if `train_iters` steps are done, `train_seconds` have passed, or validation ended training early."""
        if training.early_stop_evaluations and self.evaluations_since_best >= training.early_stop_evaluations:
            return True
        is_out_of_time = training.train_seconds is not None and self.seconds >= training.train_seconds
        return (training.train_iters is not None and self.iteration >= training.train_iters) or is_out_of_time

    def is_multiple_of(self, interval: int | None) -> bool:
        """Return True if the iteration is a multiple of the interval; False for an interval of None or 0."""
        return self.iteration % interval == 0 if interval else False

    def convert_sample_count(self, before: int | None, now: int) -> "TrainingState":
        """Return the state with its number of samples converted from `before` to `now` tokens per sample (`before` None: unknown).

        >>> TrainingState(3, 24, 1536).convert_sample_count(64, 32)
        TrainingState(iteration=3, consumed_samples=48, consumed_tokens=1536, skipped_steps=0, seconds=0.0)
        """
        before = before or now
        tokens = self.consumed_tokens or self.consumed_samples * before
        samples = self.consumed_samples if before == now else tokens // now
        return dataclasses.replace(self, consumed_samples=samples, consumed_tokens=tokens)

    def record_validation(self, loss: float) -> None:
        """Compare the loss of a validation with the lowest one so far.

        >>> state = TrainingState(iteration=5)
        >>> for loss in (2.0, 1.5, 1.7):
        ...     state.record_validation(loss)
        >>> state.best_loss, state.best_iteration, state.evaluations_since_best
        (1.5, 5, 1)
        """
        if loss < self.best_loss:
            self.best_loss, self.best_iteration, self.evaluations_since_best = loss, self.iteration, 0
        else:
            self.evaluations_since_best += 1

    def advance(self, samples: int, tokens: int, is_skipped: bool = False) -> None:
        """Add one step to the counts. The step read `samples` samples, with `tokens` tokens in total."""
        self.iteration += 1
        self.consumed_samples += samples
        self.consumed_tokens += tokens
        self.skipped_steps += is_skipped
