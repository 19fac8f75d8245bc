"""An exponential average of the weights (`average_decay`), kept in the optimizer's state beside the moments.

    average = WeightAverage(engine, decay=0.999)
    average.update()                      # after each step
    with average.exchanged():             # the module computes with the average
        ...

As a part of the state it is saved, loaded and divided over ranks like a moment. The decay of the step after t others is at most
(1 + t) / (10 + t), as in TensorFlow's ExponentialMovingAverage, so that the initial weights are soon forgotten.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from neox_code.checkpoint.universal import AVERAGE
from neox_code.training.engine import Engine
from neox_code.training.plain_engine import PlainEngine


class WeightAverage:
    """The average of this rank's part of the weights."""

    def __init__(self, engine: Engine, decay: float):
        self.engine, self.decay = engine, decay
        self.num_skipped = engine.skipped_steps
        self.first_weights: list[torch.Tensor] = []
        """With DeepSpeed's optimizer, which makes its state in its first step, the weights before it."""
        if not isinstance(engine, PlainEngine):
            self.first_weights = [group["params"][0].detach().clone() for group in engine.optimizer.optimizer.param_groups]

    def list_pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the flat fp32 weights of each group with their average, which begins with the weights."""
        if isinstance(self.engine, PlainEngine):
            return [(group.master.detach(), group.moments[AVERAGE]) for group in self.engine.groups]
        base = self.engine.optimizer.optimizer
        masters = [group["params"][0] for group in base.param_groups]
        averages = zip(masters, self.first_weights, strict=True)
        return [(master.data, base.state[master].setdefault(AVERAGE, first)) for master, first in averages]

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step. A step that was skipped changes nothing."""
        before = self.engine.global_steps - 1
        share = 1.0 - min(self.decay, (1 + before) / (10 + before))
        if not isinstance(self.engine, PlainEngine):
            is_skipped = float(self.engine.skipped_steps > self.num_skipped)
            self.num_skipped = self.engine.skipped_steps
            for master, average in self.list_pairs():
                average.lerp_(master, torch.tensor(share * (1.0 - is_skipped), device=master.device))
        else:
            weight = share * (1.0 - self.engine.is_skipped)  # on the device: the host need not wait
            for master, average in self.list_pairs():
                average.lerp_(master, weight)

    @contextmanager
    def exchanged(self) -> Iterator[None]:
        """Within the block the weights are the average. Call it on every rank."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchange the weights and their average."""
        for master, average in self.list_pairs():
            weights = master.clone()
            master.copy_(average)
            average.copy_(weights)
        (self.engine if isinstance(self.engine, PlainEngine) else self.engine.optimizer).update_lp_params()


def drop_average(engine: Engine) -> None:
    """Remove the average that DeepSpeed's optimizer loaded. The plain engine loads none without `average_decay`."""
    if not isinstance(engine, PlainEngine):
        for state in getattr(engine.optimizer, "optimizer", engine.optimizer).state.values():
            state.pop(AVERAGE, None)
