"""Where a run is: all of it that is not weights or optimizer state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class TrainingState:
    iteration: int = 0
    """Training steps done, those without an update of the weights included."""
    consumed_samples: int = 0
    """Samples read by all ranks together."""
    skipped_steps: int = 0
    """Steps that made no update, since their gradient was not finite. The learning rate does not advance in them."""

    seconds: float = 0.0
    """Time in the training loop, validation and saves included, by rank zero's clock. Counted only if `train_seconds` is set."""

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "TrainingState":
        """The inverse of `as_dict`; an empty mapping is the beginning."""
        iteration, samples, skipped = (int(state.get(key, 0)) for key in ("iteration", "consumed_samples", "skipped_iterations"))
        return cls(iteration, samples, skipped, float(state.get("training_seconds", 0.0)))

    def as_dict(self) -> dict[str, float]:
        """Return the state as checkpoints hold it; DeepSpeed keeps the key `skipped_steps` for itself."""
        return {
            "iteration": self.iteration,
            "consumed_samples": self.consumed_samples,
            "skipped_iterations": self.skipped_steps,
            "training_seconds": self.seconds,
        }

    def advance(self, samples: int, is_skipped: bool = False) -> None:
        """Count one step over `samples` samples."""
        self.iteration += 1
        self.consumed_samples += samples
        self.skipped_steps += is_skipped
