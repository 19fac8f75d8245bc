"""Build the optimizer that `optimizer.type` selects.

optimizer = build_optimizer(config.optimizer, module.named_parameters(), config.model, grid)
"""

import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from torch import nn

from neox_code.config.model import ModelConfig
from neox_code.config.optimizer import OptimizerConfig
from neox_code.errors import ConfigError
from neox_code.logs import get_logger
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.adafactor import Adafactor
from neox_code.training.muon import MatrixForm, Muon, is_block_matrix
from neox_code.training.scaled_optimizer import ScaledOptimizer

log = get_logger(__name__)

MOMENTS = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "adafactor": ("exp_avg_sq",),
    "lion": ("exp_avg",),
    "sgd": ("momentum_buffer",),
    "muon": ("momentum_buffer",),
}
"""Kind of a parameter group, or class of the optimizer -> names of the moments in the state of a parameter."""


def make_moments(optimizer: torch.optim.Optimizer, settings: Mapping[str, Any], flat: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return name -> moments of a group as one tensor of the shape of `flat`, and make the states of its parameters parts of it.

    The parameters of the group, `settings["params"]`, are consecutive parts of `flat` from its begin.
    """
    kind = settings.get("kind") or type(optimizer).__name__.lower()
    names = MOMENTS[kind] if settings.get("momentum", 1) else ()
    moments = {name: torch.zeros_like(flat) for name in names}
    offset = 0
    for parameter in settings["params"]:
        state = {name: moment[offset : offset + parameter.numel()] for name, moment in moments.items()}
        if kind in ("adamw", "muon", "adafactor"):
            state["step"] = torch.zeros((), device=flat.device)
        optimizer.state[parameter] = state
        offset += parameter.numel()
    return moments


class Lion(ScaledOptimizer):
    """Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675, algorithm 2). Its only state is the momentum.

    update = sign(beta1 * momentum + (1 - beta1) * gradient);  weight -= lr * (update + weight_decay * weight)
    momentum = beta2 * momentum + (1 - beta2) * gradient
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def update(self) -> None:
        """Update the weights of every group by the sign of the mixed momentum, then the momenta."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [self.unscale(weight.grad) for weight in weights]
            lr: Any = group["lr"]
            beta1, beta2 = group["betas"]
            if self.found_inf is not None:
                lr, beta2 = lr * self.kept, 1 - (1 - beta2) * self.kept
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["exp_avg"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["exp_avg"] for weight in weights]
            updates = torch._foreach_lerp(momenta, gradients, 1 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            torch._foreach_mul_(updates, lr)
            torch._foreach_sub_(weights, updates)
            torch._foreach_mul_(momenta, beta2)
            torch._foreach_add_(momenta, torch._foreach_mul(gradients, 1 - beta2))


NamedParameters = Iterable[tuple[str, nn.Parameter]]

KINDS = ("blocks", "matrices", "embedding", "head", "vectors")
"""Groups of parameters in their order: matrices that Muon updates, other matrices, those with a rate of their own, vectors."""


def group_parameters(section: OptimizerConfig, parameters: NamedParameters) -> dict[tuple[str, float], dict[str, Any]]:
    """Return (kind of KINDS, rate relative to others of the kind) -> parameter group. Vectors (biases, norms) have no weight decay.

    The learning rate of a group is that of the schedule times `lr_ratio`. Parameters with an attribute `lr_ratio` are groups of
    their own.
    """
    found: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            key = choose_kind(section, name, parameter), getattr(parameter, "lr_ratio", 1.0)
            found.setdefault(key, []).append(parameter)
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    rates = {"blocks": section.muon_lr, "embedding": section.embedding_lr, "head": section.head_lr}
    for kind, ratio in sorted(found, key=lambda key: (KINDS.index(key[0]), key[1])):
        rate = rates.get(kind)
        decay = 0.0 if kind == "vectors" else section.weight_decay
        own = ratio if rate is None or not section.lr else ratio * rate / section.lr
        groups[kind, ratio] = {"params": found[kind, ratio], "weight_decay": decay, "lr_ratio": own}
    return groups


def choose_kind(section: OptimizerConfig, name: str, parameter: nn.Parameter) -> str:
    if parameter.dim() < 2:
        return "vectors"
    if section.optimizer_type == "muon" and is_block_matrix(name):
        return "blocks"
    if section.embedding_lr is not None and name.endswith(("word_embeddings.weight", "position_embeddings.weight")):
        return "embedding"
    return "head" if section.head_lr is not None and name.endswith("final_linear.weight") else "matrices"


def log_groups(section: OptimizerConfig, groups: Mapping[tuple[str, float], Mapping[str, Any]]) -> None:
    """Log the number of parameters, learning rate and weight decay of each group of this rank."""
    for (kind, _), group in groups.items():
        count = sum(parameter.numel() for parameter in group["params"])
        method = "muon" if kind == "blocks" else "adamw" if section.optimizer_type in ("muon", "adam") else section.optimizer_type
        rate = (section.lr or 0.0) * group["lr_ratio"]
        message = "optimizer: %s of %s, %d tensors with %s values, lr %g, weight decay %g"
        log.info(message, method, kind, len(group["params"]), f"{count:,}", rate, group["weight_decay"])


def build_eight_bit_optimizer(groups: list[dict], name: str, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the bitsandbytes optimizer of this name. Raise ConfigError if the package is missing."""
    try:
        import bitsandbytes
    except ImportError:
        raise ConfigError(
            "use_bnb_optimizer is true, but the package bitsandbytes is missing. Run: pip install -e '.[bitsandbytes]'"
        ) from None
    return getattr(bitsandbytes.optim, name)(groups, **settings)


def build_cpu_adam(section: OptimizerConfig, groups: list[dict], settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return DeepSpeed's AdamW for the CPU, which uses vector instructions. Its weights and states are in the host's memory."""
    if not section.offloads_optimizer and any(weight.is_cuda for group in groups for weight in group["params"]):
        raise ConfigError(
            "optimizer.type cpu_adam needs its states in the host's memory. "
            "Use --set zero_optimization.offload_optimizer.device=cpu, or --set optimizer.type=adam."
        )
    try:
        return DeepSpeedCPUAdam(groups, **settings)
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"optimizer.type cpu_adam cannot be compiled here ({str(error).splitlines()[0]}). "
            "Install a C++ compiler and ninja (pip install ninja), or use --set optimizer.type=adam."
        ) from error


def build_muon(
    section: OptimizerConfig,
    groups: Mapping[tuple[str, float], dict[str, Any]],
    names: Mapping[nn.Parameter, str],
    model: ModelConfig,
    grid: ParallelGrid,
) -> Muon:
    """Return Muon for the group of blocks and AdamW for the others."""
    matrices: list[nn.Parameter] = []
    for (kind, _), group in groups.items():
        group["kind"] = "muon" if kind == "blocks" else "adamw"
        matrices += group["params"] if kind == "blocks" else []
    forms = [MatrixForm.from_name(names[matrix], matrix.shape, model, grid.tensor_size) for matrix in matrices]
    dtype = torch.float32 if model.precision == "fp32" else torch.bfloat16
    adamw: dict[str, Any] = {"lr": section.lr, "betas": tuple(section.effective_betas), "eps": section.eps}
    return Muon(list(groups.values()), forms, grid, section.effective_momentum, dtype, **adamw)


def build_adafactor(section: OptimizerConfig, groups: list[dict], grid: ParallelGrid) -> Adafactor:
    """Return Adafactor. Raise ConfigError for several ranks, of which none has whole matrices."""
    if grid.world_size > 1:
        raise ConfigError(
            f"optimizer.type adafactor is for one rank, and this run has {grid.world_size}. Use --set num_gpus=1, or for several "
            "ranks --set optimizer.type=lion, which has as many values in its state."
        )
    for group in groups:
        group["kind"] = "adafactor"
    return Adafactor(groups, [[parameter.shape for parameter in group["params"]] for group in groups], section.lr or 0.0)


def build_optimizer(
    section: OptimizerConfig, parameters: NamedParameters, model: ModelConfig, grid: ParallelGrid
) -> torch.optim.Optimizer:
    """Return the configured optimizer. As in GPT-NeoX, Adam and AdamW are both AdamW. Raise ConfigError if a package is missing."""
    named = list(parameters)
    by_kind = group_parameters(section, named)
    log_groups(section, by_kind)
    if section.optimizer_type == "muon":
        return build_muon(section, by_kind, {parameter: name for name, parameter in named}, model, grid)
    groups = list(by_kind.values())
    adam: dict[str, Any] = {"lr": section.lr, "betas": tuple(section.effective_betas), "eps": section.eps}
    sgd: dict[str, Any] = {
        "lr": section.lr,
        "momentum": section.effective_momentum,
        "dampening": section.dampening,
        "nesterov": section.nesterov,
    }
    lion: dict[str, Any] = {"lr": section.lr, "betas": tuple(section.effective_betas)}
    if section.optimizer_type == "adafactor":
        return build_adafactor(section, groups, grid)
    if section.optimizer_type == "cpu_adam":
        return build_cpu_adam(section, groups, adam)
    if section.use_bnb_optimizer:
        name, settings = {"sgd": ("SGD8bit", sgd), "lion": ("Lion8bit", lion)}.get(section.optimizer_type, ("AdamW8bit", adam))
        return build_eight_bit_optimizer(groups, name, settings)
    if section.optimizer_type == "sgd":
        return torch.optim.SGD(groups, **sgd, fused=True)
    if section.optimizer_type == "lion":
        return Lion(groups, **lion)
    return torch.optim.AdamW(groups, **adam, fused=True)
