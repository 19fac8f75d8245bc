"""Remarks on values that are allowed but probably not intended; a dry run and the start of a run print them."""

import math
from collections.abc import Iterator

from neox_code.config.neox import NeoXConfig

FALLS_TO_MIN_LR = ("linear", "cosine", "wsd")


def list_remarks(config: NeoXConfig) -> Iterator[str]:
    """Yield one message for each remark."""
    optimizer, train_iters = config.optimizer, config.training.train_iters or 0
    end = optimizer.lr_decay_iters or max(1, math.floor(train_iters * (optimizer.lr_decay_fraction or 1)))
    if optimizer.lr_decay_style in FALLS_TO_MIN_LR and optimizer.min_lr == 0 and train_iters > end:
        key = "lr_decay_iters" if optimizer.lr_decay_iters else "lr_decay_fraction"
        yield (
            f"the last {train_iters - end:,} of {train_iters:,} steps train at learning rate 0: "
            f"{config.format_key('train_iters')} continues after {config.format_key(key)}, and {config.format_key('min_lr')}. "
            f"Raise {key} or min_lr, or lower train_iters."
        )
