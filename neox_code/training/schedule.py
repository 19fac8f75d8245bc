"""Learning rates as pure functions of the step. Resume needs no state, and no schedule climbs again after its end."""

import math

from neox_code.config.optimizer import OptimizerConfig


def decayed(style: str, peak: float, floor: float, progress: float) -> float:
    """The rate after `progress` of the decay, which ends at 1: linear falls towards 0, cosine to `floor`; 0.693 is ln 2.

    >>> [round(decayed("cosine", 1.0, 0.2, p), 3) for p in (0, 0.5, 1, 2)], round(decayed("exponential", 1.0, 0.2, 1), 3)
    ([1.0, 0.6, 0.2, 0.2], 0.5)
    """
    rates = {
        "constant": lambda: peak,
        "linear": lambda: peak * (1.0 - progress),
        "cosine": lambda: floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))),
        "exponential": lambda: peak * math.exp(-0.693 * progress),
    }
    return max(floor, rates[style]())


def learning_rate(step: int, peak: float, floor: float, style: str, warmup_steps: float, decay_steps: int) -> float:
    """The rate of step number `step`, counted from 1: linear warm-up from 0, then the decay, never below `floor`.

    >>> [learning_rate(step, 1.0, 0.1, "linear", 2, 10) for step in (1, 2, 6, 10, 1000)]
    [0.5, 1.0, 0.5, 0.1, 0.1]
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    return decayed(style, peak, floor, (step - warmup_steps) / max(1, decay_steps - warmup_steps))


def scheduled_rate(step: int, optimizer: OptimizerConfig, train_iters: int) -> float:
    """The configured schedule at step number `step`, counted from 1. The optimizer has a learning rate."""
    assert optimizer.lr is not None
    decay_steps = optimizer.lr_decay_iters or max(1, math.floor(train_iters * (optimizer.lr_decay_fraction or 1)))
    warmup_steps = optimizer.warmup * decay_steps
    return learning_rate(step, optimizer.lr, optimizer.min_lr, optimizer.lr_decay_style, warmup_steps, decay_steps)
