"""Optimizers by the config's `optimizer.type`."""

from collections.abc import Iterable

import torch
from torch import nn

from neox_code.config.optimizer import OptimizerConfig


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Two groups: matrices, which decay, and vectors (biases, norms), which do not."""
    matrices, vectors = [], []
    for parameter in parameters:
        if parameter.requires_grad:
            (matrices if parameter.dim() > 1 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(section: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam and AdamW are both AdamW, as in GPT-NeoX, in torch's fused form."""
    return torch.optim.AdamW(
        parameter_groups(parameters, section.weight_decay), lr=section.lr, betas=tuple(section.betas), eps=section.eps, fused=True
    )
