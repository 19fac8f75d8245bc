"""Learning rates as pure functions of the step. Resume needs no state, and no schedule climbs again after its end."""

import math

from neox_code.config.optimizer import OptimizerConfig


def decayed_share(style: str, progress: float) -> float:
    """The share of (lr - min_lr) that is left after `progress`, 0 to 1, of the decay.

    >>> [round(decayed_share("cosine", p), 3) for p in (0, 0.5, 1)]
    [1.0, 0.5, 0.0]
    """
    if style == "constant":
        return 1.0
    return 1.0 - progress if style == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate(step: int, peak: float, floor: float, style: str, warmup_steps: int, decay_steps: int) -> float:
    """The rate of step number `step`, counted from 1: linear warm-up from 0, decay to `floor` at `decay_steps`, then `floor`.

    >>> [learning_rate(step, 1.0, 0.1, "linear", 2, 10) for step in (1, 2, 6, 10, 1000)]
    [0.5, 1.0, 0.55, 0.1, 0.1]
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, decay_steps - warmup_steps))
    return floor + (peak - floor) * decayed_share(style, progress)


def scheduled_rate(step: int, optimizer: OptimizerConfig, train_iters: int) -> float:
    """The configured schedule at step number `step`, counted from 1. The optimizer has a learning rate."""
    assert optimizer.lr is not None
    decay_steps = optimizer.lr_decay_iters or train_iters
    warmup_steps = round(optimizer.warmup * decay_steps)
    return learning_rate(step, optimizer.lr, optimizer.min_lr, optimizer.lr_decay_style, warmup_steps, decay_steps)
