"""The loss scale of fp16 training as tensors on the device, so that no step waits for the host.

DeepSpeed's rule: after an overflow the scale is halved, once `hysteresis` overflows have been forgiven; after `loss_scale_window`
steps without overflow it is doubled. The state has the names of DeepSpeed's files.
"""

from collections.abc import Mapping
from typing import Any

import torch

STATE = {"cur_scale": 1.0, "cur_iter": 0.0, "last_overflow_iter": -1.0, "cur_hysteresis": 1.0}
FACTOR = 2.0


class LossScale:
    """A dynamic scale, or with the setting `loss_scale` above 0 a fixed one."""

    def __init__(self, settings: Mapping[str, Any], device: torch.device):
        fixed = float(settings.get("loss_scale", 0))
        self.is_dynamic = fixed == 0
        self.window = int(settings.get("loss_scale_window", 1000))
        self.hysteresis = float(settings.get("hysteresis", 2))
        self.smallest = float(settings.get("min_loss_scale", 1))
        self.refills = bool(settings.get("consecutive_hysteresis", False))
        first = 2.0 ** float(settings.get("initial_scale_power", 16)) if self.is_dynamic else fixed
        start = STATE | {"cur_scale": first, "cur_hysteresis": self.hysteresis}
        self.state = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in start.items()}

    @property
    def scale(self) -> torch.Tensor:
        return self.state["cur_scale"]

    def update(self, has_overflow: torch.Tensor) -> None:
        """Change the scale after a step. `has_overflow` is 1.0 if the gradient was not finite, else 0.0."""
        if not self.is_dynamic:
            return
        scale, iteration, last, hysteresis = self.state.values()
        is_over = has_overflow > 0
        stable = iteration - last - 1
        is_grown = ~is_over & (stable > 0) & (stable % self.window == 0)
        is_cut = is_over & (hysteresis <= 1)
        is_refilled = ~is_over & (is_grown | self.refills)
        cut = (scale / FACTOR).clamp_min(self.smallest)
        scale.copy_(torch.where(is_cut, cut, torch.where(is_grown, scale * FACTOR, scale)))
        hysteresis.sub_((is_over & ~is_cut).float())
        hysteresis.copy_(torch.where(is_refilled, self.hysteresis, hysteresis))
        last.copy_(torch.where(is_over, iteration, last))
        iteration.add_(1)

    def as_dict(self) -> dict[str, Any]:
        """Return the state with the settings that DeepSpeed's loader reads."""
        return {name: float(value) for name, value in self.state.items()} | {"dynamic": self.is_dynamic}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a checkpoint if both scales are dynamic. The inverse of `as_dict`."""
        if self.is_dynamic and state.get("dynamic"):
            for name, value in self.state.items():
                value.fill_(float(state[name]))
