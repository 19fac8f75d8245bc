"""The optimizer, its schedule and its state's distribution."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class OptimizerConfig:
    optimizer_type: Literal["adam", "adamw"] = "adam"
    """`optimizer.type`; Adam is AdamW here, as in GPT-NeoX: decay is decoupled."""

    lr: float | None = None
    """`optimizer.params.lr`: the learning rate after warm-up. Needed for training."""

    betas: tuple[float, float] = (0.9, 0.999)
    """`optimizer.params.betas`: decay rates of the moments."""

    eps: float = 1e-8
    """`optimizer.params.eps`: added to the root of the second moment."""

    weight_decay: float = 0.1
    """Decoupled decay of matrices; biases and norms have none."""

    gradient_clipping: float = 1.0
    """Largest norm of the gradient over all parameters; 0 for no limit."""

    lr_decay_style: Literal["constant", "linear", "cosine"] = "linear"
    """Shape of the learning rate after warm-up."""

    lr_decay_iters: int | None = None
    """Step at which the learning rate reaches `min_lr`, where it stays; default `train_iters`."""

    min_lr: float = 0.0
    """Learning rate at the end of the decay."""

    warmup: float = 0.01
    """Share of `lr_decay_iters` in which the learning rate climbs linearly from 0."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """`zero_optimization.stage`: 1 divides the optimizer's state over the data-parallel ranks. 0 runs as 1."""

    zero_optimization: Mapping[str, Any] = field(default_factory=dict)
    """`zero_optimization`, handed to DeepSpeed as it is but for the stage."""

    fp16: Mapping[str, Any] = field(default_factory=dict)
    """`fp16`, handed to DeepSpeed as it is: the loss scale's settings."""

    deepspeed_extra: Mapping[str, Any] = field(default_factory=dict)
    """Any other of DeepSpeed's own dictionaries (`data_types`, `comms_logger`, ...), handed on as they are."""
