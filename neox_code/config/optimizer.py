"""Keys of the optimizer, of the learning rate schedule and of ZeRO, which divides the optimizer's state over ranks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class OptimizerConfig:
    optimizer_type: Literal["adam", "adamw", "sgd", "lion", "cpu_adam", "muon", "adafactor"] = "adam"
    """`optimizer.type`. adam is AdamW, as in GPT-NeoX: its weight decay is decoupled from the gradient. muon is Muon for the
    matrices of attention and feed-forward layers, each of queries, keys and values a matrix of its own, with updates of AdamW's
    size and Nesterov momentum; the embedding, the head and vectors (biases, norms) have AdamW. adafactor is that of
    transformers with `scale_parameter` and of optax: updates are relative to the size of a parameter, and its state is half of
    AdamW's; for one rank. cpu_adam is DeepSpeed's AdamW for optimizer states in the host's memory
    (`zero_optimization.offload_optimizer`), compiled at its first use."""

    use_bnb_optimizer: bool = False
    """Keep the states of Adam, SGD or Lion in 8 bits (package bitsandbytes)."""

    lr: float | None = None
    """`optimizer.params.lr`: the learning rate after warm-up. Needed for training."""

    muon_lr: float | None = None
    """`optimizer.params.muon_lr`: learning rate of the matrices that Muon updates, after warm-up; default `lr`. The schedule
    multiplies all rates by one factor."""

    embedding_lr: float | None = None
    """`optimizer.params.embedding_lr`: learning rate of the embeddings of tokens and positions, after warm-up; default `lr`."""

    head_lr: float | None = None
    """`optimizer.params.head_lr`: learning rate of the output layer (`no_weight_tying`), after warm-up; default `lr`."""

    betas: tuple[float, float] | None = None
    """`optimizer.params.betas`: decay rates of the moments; default [0.9, 0.999], and [0.9, 0.99] for Lion."""

    eps: float = 1e-8
    """`optimizer.params.eps`: number that Adam adds to the root of the second moment."""

    momentum: float | None = None
    """`optimizer.params.momentum`: share of the last update that is added to the next update (SGD, default 0), or share of the
    mean of gradients in the next mean (Muon, default 0.95)."""

    dampening: float = 0.0
    """`optimizer.params.dampening`: share of the gradient that is not added to the momentum (SGD)."""

    nesterov: bool = False
    """`optimizer.params.nesterov`: True uses Nesterov momentum (SGD)."""

    weight_decay: float = 0.1
    """Weight decay of matrices, decoupled from the gradient (not with SGD). Biases and norms have no decay."""

    gradient_clipping: float = 1.0
    """Largest norm of the gradient over all parameters; 0 for no limit."""

    lr_decay_style: Literal["constant", "linear", "cosine", "exponential", "wsd"] = "linear"
    """Learning rate after warm-up: linear falls towards 0 and cosine to `min_lr`; exponential is halved once in `lr_decay_iters`
    minus the warm-up steps; wsd stays at `lr` and falls linearly to `min_lr` in the last `lr_decay_share`. As in GPT-NeoX, steps
    are counted from 0, so that the last step of linear has a rate above 0. After the end of the decay cosine stays at `min_lr`; in
    GPT-NeoX it rises again."""

    lr_decay_share: float = 0.3
    """Share of the steps after warm-up in which the learning rate of wsd falls."""

    lr_decay_iters: int | None = None
    """Step at which the decay ends; default `lr_decay_fraction` of `train_iters`, or `train_iters`."""

    lr_decay_fraction: float | None = None
    """Share of `train_iters` after which the decay ends, instead of `lr_decay_iters`."""

    min_lr: float = 0.0
    """The learning rate never falls below this value."""

    warmup: float = 0.01
    """Share of `lr_decay_iters` during which the learning rate rises linearly to `lr`."""

    average_decay: float | None = None
    """Keep an exponential average of the weights, the average times this number plus the rest of the new weights after each step
    (0.999, for example; less in the first steps). Checkpoints have it, validation reports its loss as validation/average, and
    `use_average` reads it. It takes 4 bytes a parameter. Not with ZeRO stage 3 or adapters."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """`zero_optimization.stage`: 1 divides the optimizer's state over the data-parallel ranks. 0 runs as 1."""

    zero_optimization: Mapping[str, Any] = field(default_factory=dict)
    """`zero_optimization` without its stage; passed to DeepSpeed unchanged."""

    fp16: Mapping[str, Any] = field(default_factory=dict)
    """`fp16`: the settings of the loss scale; passed to DeepSpeed unchanged."""

    deepspeed_extra_args: Mapping[str, Any] = field(default_factory=dict)
    """DeepSpeed's other settings that have an effect here (`data_types`, `communication_data_type`, `csv_monitor`, ...)."""

    @property
    def effective_betas(self) -> tuple[float, float]:
        """`betas`, or the optimizer's default."""
        return self.betas or ((0.9, 0.99) if self.optimizer_type == "lion" else (0.9, 0.999))

    @property
    def effective_momentum(self) -> float:
        """`momentum`, or the optimizer's default."""
        return self.momentum if self.momentum is not None else 0.95 if self.optimizer_type == "muon" else 0.0

    @property
    def offloads_optimizer(self) -> bool:
        """True if ZeRO keeps the optimizer's states in the host's memory."""
        return is_offloaded(self.zero_optimization)


def is_offloaded(zero_optimization: Mapping[str, Any]) -> bool:
    """Return True if ZeRO keeps the optimizer's states in the host's memory.

    >>> is_offloaded({"offload_optimizer": {"device": "cpu"}}), is_offloaded({"cpu_offload": False})
    (True, False)
    """
    offload = zero_optimization.get("offload_optimizer")
    return bool(zero_optimization.get("cpu_offload")) or (
        isinstance(offload, Mapping) and offload.get("device", "none") not in (None, "none")
    )
