"""Adafactor (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235), as GPT-Code-Clippy trained with it.

    optimizer = Adafactor(groups, shapes, lr=2e-5)      # shapes: of the parameters of each group

The second moment of a matrix is kept as the means of its rows and of its columns. There is no first moment. The step is relative to
the size of a parameter, as with `scale_parameter` in transformers' Adafactor and `multiply_by_parameter_scale` in optax:

    rate = lr * max(0.001, rms(weight));  beta = 1 - t**-0.8
    rows, columns = lerp(rows, mean(gradient**2, 1), 1 - beta), lerp(columns, mean(gradient**2, 0), 1 - beta)
    update = gradient / sqrt(rows * columns / mean(rows));  update = update / max(1, rms(update))
    weight = weight * (1 - rate * weight_decay) - rate * update

The engine has all parameters of a group in one flat tensor, and its moments in another. The means of a matrix are at the beginning
of its part of the moments, the rest of which is unused: checkpoints have the layout of other optimizers with one moment.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from neox_code.training.scaled_optimizer import ScaledOptimizer

SMALLEST_SQUARE, SMALLEST_SCALE, DECAY = 1e-30, 1e-3, 0.8


class Adafactor(ScaledOptimizer):
    """The parameters of a group are tensors of the given shapes, or one flat tensor of all of them."""

    def __init__(self, groups: list[dict], shapes: Sequence[Sequence[torch.Size]], lr: float):
        self.shapes = shapes
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    def update(self) -> None:
        kept = self.kept
        for group, shapes in zip(self.param_groups, self.shapes, strict=True):
            for weight, gradient, moment, step in self.list_tensors(group["params"], shapes, kept):
                update = make_update(self.unscale(gradient), moment, kept * step**-DECAY)
                rate = group["lr"] * kept * compute_rms(weight).clamp_min(SMALLEST_SCALE)
                weight.mul_(1 - rate * group["weight_decay"]).sub_(update * (rate / compute_rms(update).clamp_min(1.0)))

    def list_tensors(
        self, parameters: Sequence[torch.Tensor], shapes: Sequence[torch.Size], kept: Any
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield weight and gradient of each shape, its part of the moments, flat, and the number of the step."""
        left = list(shapes)
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] |= {
                    "exp_avg_sq": torch.zeros_like(parameter),
                    "step": torch.zeros((), device=parameter.device),
                }
            state = self.state[parameter]
            state["step"] += kept
            flats = [each.view(-1) for each in (parameter.data, parameter.grad, state["exp_avg_sq"]) if each is not None]
            offset = 0
            while left and offset + left[0].numel() <= parameter.numel():
                shape = left.pop(0)
                if parameter.grad is not None:
                    weight, gradient, moment = (flat[offset : offset + shape.numel()] for flat in flats)
                    yield weight.view(shape), gradient.view(shape), moment, state["step"].clamp_min(1)
                offset += shape.numel()


def make_update(gradient: torch.Tensor, moment: torch.Tensor, share: Any) -> torch.Tensor:
    """Return the gradient divided by the root of its second moment, to which its square is added with the weight `share`."""
    squares = gradient.square().add_(SMALLEST_SQUARE)
    if min(gradient.shape) < 2 or gradient.dim() < 2:  # a matrix of one row or column has as many means as values
        moment.lerp_(squares.view(-1), share)
        return gradient * moment.view(gradient.shape).rsqrt()
    num_rows, num_columns = gradient.shape
    rows, columns = moment[:num_rows], moment[num_rows : num_rows + num_columns]
    rows.lerp_(squares.mean(1), share)
    columns.lerp_(squares.mean(0), share)
    return gradient * (rows / rows.mean()).rsqrt()[:, None] * columns.rsqrt()


def compute_rms(tensor: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(tensor) / tensor.numel() ** 0.5
