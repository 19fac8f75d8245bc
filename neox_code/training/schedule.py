"""Learning rates as pure functions of the number of updates, so that resuming needs no state.

The formulas are those of GPT-NeoX's AnnealingLR, which counts from 0: the first update has the rate of 0 updates. There are two
differences. After its end, cosine stays at `min_lr`; in GPT-NeoX it rises again. With a warm-up shorter than one update, the rate
never exceeds `lr`; GPT-NeoX divides by a number below 1.
"""

import math

from neox_code.config.optimizer import OptimizerConfig


def compute_decay_rate(style: str, peak: float, lowest: float, progress: float, share: float = 0.3) -> float:
    """Return the learning rate at `progress`: 0 at the start of the decay, 1 at its end. No rate is below `lowest`.

    linear falls towards 0, cosine to `lowest`, exponential to half the peak. wsd (warm-up, stable, decay) keeps the peak and falls
    linearly to `lowest` in the last `share` of the decay (Hu et al. 2024, MiniCPM).

    >>> [round(compute_decay_rate("cosine", 1.0, 0.2, p), 3) for p in (0, 0.5, 1, 2)]
    [1.0, 0.6, 0.2, 0.2]
    >>> round(compute_decay_rate("exponential", 1.0, 0.2, 1), 3)      # 0.693 is ln 2
    0.5
    """
    rates = {
        "constant": lambda: peak,
        "linear": lambda: peak * (1.0 - progress),
        "cosine": lambda: lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))),
        "wsd": lambda: lowest + (peak - lowest) * max(0.0, min(1.0, (1.0 - progress) / share)),
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
    updates: float, peak: float, lowest: float, style: str, warmup_updates: float, decay_updates: int, share: float = 0.3
) -> float:
    """Return the learning rate after `updates` updates: linear warm-up, then the decay, never below `lowest`.

    >>> [compute_learning_rate(updates, 1.0, 0.1, "linear", 2, 10) for updates in (0, 1, 2, 6, 9, 1000)]
    [0.5, 0.5, 1.0, 0.5, 0.125, 0.1]
    """
    if warmup_updates > 0 and updates <= warmup_updates:
        return peak * min(1.0, max(1, updates) / warmup_updates)
    return compute_decay_rate(style, peak, lowest, (updates - warmup_updates) / max(1, decay_updates - warmup_updates), share)


def count_decay_updates(optimizer: OptimizerConfig, train_iters: int) -> int:
    """Return the number of updates until the decay ends, warm-up included."""
    return optimizer.lr_decay_iters or max(1, math.floor(train_iters * (optimizer.lr_decay_fraction or 1)))


def compute_warmup_updates(optimizer: OptimizerConfig, train_iters: int) -> float:
    return optimizer.warmup * count_decay_updates(optimizer, train_iters)


def compute_scheduled_rate(updates: float, optimizer: OptimizerConfig, train_iters: int) -> float:
    """Return the configured learning rate after `updates` updates. `optimizer.lr` must be set."""
    assert optimizer.lr is not None
    decay_updates, warmup_updates = count_decay_updates(optimizer, train_iters), compute_warmup_updates(optimizer, train_iters)
    peak, lowest, style, share = optimizer.lr, optimizer.min_lr, optimizer.lr_decay_style, optimizer.lr_decay_share
    return compute_learning_rate(updates, peak, lowest, style, warmup_updates, decay_updates, share)


def plan_branch(iteration: int, updates: int, decay_iters: int, warmup_updates: float) -> dict[str, float | int | str]:
    """Return the keys of a schedule that leaves a trunk after `iteration` steps and falls in the `decay_iters` steps after them.

    Its warm-up has the updates of the trunk's warm-up.

    >>> plan_branch(60, 60, 20, 10.0)
    {'lr_decay_style': 'wsd', 'train_iters': 80, 'lr_decay_iters': 80, 'warmup': 0.125, 'lr_decay_share': 0.2857142857142857}
    """
    end = updates + decay_iters
    share = decay_iters / (end - warmup_updates)
    schedule = {"lr_decay_iters": end, "warmup": warmup_updates / end, "lr_decay_share": share}
    return {"lr_decay_style": "wsd", "train_iters": iteration + decay_iters, **schedule}
