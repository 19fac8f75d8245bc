"""Where a run is: all of it that is not weights or optimizer state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class TrainingState:
    iteration: int = 0
    """Optimizer steps done."""
    consumed_samples: int = 0
    """Samples read by all ranks together."""

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "TrainingState":
        """The inverse of `as_dict`; an empty mapping is the beginning."""
        return cls(int(state.get("iteration", 0)), int(state.get("consumed_samples", 0)))

    def as_dict(self) -> dict[str, int]:
        return {"iteration": self.iteration, "consumed_samples": self.consumed_samples}

    def advance(self, samples: int) -> None:
        """After one step over so many samples."""
        self.iteration += 1
        self.consumed_samples += samples
