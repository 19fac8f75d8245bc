"""Learning rates as pure functions of the number of updates, so that resuming needs no state.

The formulas are those of GPT-NeoX's AnnealingLR, which counts from 0: the first update has the rate of 0 updates. There are two
differences. After its end, cosine stays at `min_lr`; in GPT-NeoX it rises again. With a warm-up shorter than one update, the rate
never exceeds `lr`; GPT-NeoX divides by a number below 1.
"""

import math

from neox_code.config.optimizer import OptimizerConfig

WSD_DECAY = 0.3
"""Share of the decay period in which the style wsd (warm-up, stable, decay) decays."""


def compute_decay_rate(style: str, peak: float, lowest: float, progress: float) -> float:
    """Return the learning rate at `progress`: 0 at the start of the decay, 1 at its end. No rate is below `lowest`.

    linear falls towards 0, cosine to `lowest`, exponential to half the peak. wsd keeps the peak and falls linearly to `lowest` in
    the last `WSD_DECAY` of the decay (Hu et al. 2024, MiniCPM).

    >>> [round(compute_decay_rate("cosine", 1.0, 0.2, p), 3) for p in (0, 0.5, 1, 2)]
    [1.0, 0.6, 0.2, 0.2]
    >>> round(compute_decay_rate("exponential", 1.0, 0.2, 1), 3)      # 0.693 is ln 2
    0.5
    """
    rates = {
        "constant": lambda: peak,
        "linear": lambda: peak * (1.0 - progress),
        "cosine": lambda: lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))),
        "wsd": lambda: lowest + (peak - lowest) * max(0.0, min(1.0, (1.0 - progress) / WSD_DECAY)),
        "exponential": lambda: peak * math.exp(-0.693 * progress),
    }
    return max(lowest, rates[style]())


def compute_schedule_position(updates: int, train_iters: int, seconds: float, train_seconds: float | None) -> float:
    """Return the position in a schedule of `train_iters` updates: max(updates, train_iters * seconds / train_seconds).

    >>> [compute_schedule_position(updates, 100, 30.0, seconds) for updates, seconds in ((10, 60.0), (80, 60.0), (10, None))]
    [50.0, 80, 10]
    """
    return max(updates, train_iters * seconds / train_seconds) if train_seconds else updates


def compute_learning_rate(
    updates: float, peak: float, lowest: float, style: str, warmup_updates: float, decay_updates: int
) -> float:
    """Return the learning rate after `updates` updates: linear warm-up, then the decay, never below `lowest`.

    >>> [compute_learning_rate(updates, 1.0, 0.1, "linear", 2, 10) for updates in (0, 1, 2, 6, 9, 1000)]
    [0.5, 0.5, 1.0, 0.5, 0.125, 0.1]
    """
    if warmup_updates > 0 and updates <= warmup_updates:
        return peak * min(1.0, max(1, updates) / warmup_updates)
    return compute_decay_rate(style, peak, lowest, (updates - warmup_updates) / max(1, decay_updates - warmup_updates))


def compute_scheduled_rate(updates: float, optimizer: OptimizerConfig, train_iters: int) -> float:
    """Return the configured learning rate after `updates` updates. `optimizer.lr` must be set."""
    assert optimizer.lr is not None
    decay_updates = optimizer.lr_decay_iters or max(1, math.floor(train_iters * (optimizer.lr_decay_fraction or 1)))
    warmup_updates = optimizer.warmup * decay_updates
    return compute_learning_rate(updates, optimizer.lr, optimizer.min_lr, optimizer.lr_decay_style, warmup_updates, decay_updates)
