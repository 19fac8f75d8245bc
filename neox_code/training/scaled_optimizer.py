"""Base classes of the project's optimizers: a loss scale and skipped steps, which an engine passes on the device, and `step`."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch


class ScaledGradients:
    """As torch's fused optimizers, it divides gradients by the attribute `grad_scale`, and changes nothing if `found_inf` is 1."""

    grad_scale: torch.Tensor | None = None
    found_inf: torch.Tensor | None = None

    @property
    def kept(self) -> Any:
        """1, or 0 in a step that changes nothing; a tensor if `found_inf` is one."""
        return 1.0 if self.found_inf is None else 1 - self.found_inf

    def unscale(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient divided by the scale; values that are not finite become 0."""
        return gradient if self.grad_scale is None else torch.nan_to_num(gradient / self.grad_scale, 0.0, 0.0, 0.0)


class ScaledOptimizer(ScaledGradients, torch.optim.Optimizer):
    """An optimizer whose step is the method `update`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step. Return the result of `closure` if it is given, else None."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update()
        return loss

    @abstractmethod
    def update(self) -> None:
        """Update all parameters that have gradients."""
