"""Build this rank's engine from a model and an optimizer. This is the only module that calls deepspeed.initialize.

    module = build_module(layers, loss, config, grid)
    optimizer = build_optimizer(config.optimizer, module.named_parameters(), config.model, grid)
    engine = build_engine(module, optimizer, config, sizes, grid)

A run without pipeline at ZeRO stage 0 or 1 has a PlainEngine. Other runs have DeepSpeed's engine: with `pipe_parallel_size` 1 or
more its pipeline engine with a PipelineModule, with 0 its engine for a plain module.
"""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import TypeAlias

import deepspeed
import torch
from deepspeed import DeepSpeedEngine
from deepspeed.pipe import PipelineModule
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.pipe.engine import PipelineEngine
from torch import nn

from neox_code.config.deepspeed import find_need_of_deepspeed, make_deepspeed_dict
from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.logs import get_logger
from neox_code.model.form import StageJoint
from neox_code.model.gpt import GPT, Layer
from neox_code.model.loss import HeadInput, WeightedLoss
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.megatron_core import disable_compiler
from neox_code.parallel.mpu import ModelParallelUnit
from neox_code.parallel.pipeline import build_pipeline, prepare_deepspeed
from neox_code.training.gradient_norm import replace_norm_methods
from neox_code.training.plain_engine import PlainEngine

with disable_compiler():
    import deepspeed.runtime.zero.muon.muon_optimizer  # deepspeed.initialize imports it

log = get_logger(__name__)

Engine: TypeAlias = DeepSpeedEngine | PlainEngine
"""Module, optimizer and communication of one rank."""


def has_pipeline(engine: Engine) -> bool:
    """Return True for a pipeline engine, which reads an iterator of batches instead of one batch."""
    return isinstance(engine, PipelineEngine)


def reads_late(engine: Engine) -> bool:
    """Return True if the results of a step are read one step later, so that the host does not wait for the device."""
    return isinstance(engine, PlainEngine) and engine.is_whole


def set_rate(engine: Engine, rate: float, rate_after_skip: float) -> None:
    """Set the learning rate of the next step: `rate_after_skip` if the last step was skipped and its result is unread."""
    if isinstance(engine, PlainEngine):
        engine.set_rate(rate, rate_after_skip)
    else:
        for group in engine.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_ratio", 1.0)


def set_batch_sizes(engine: Engine, sizes: BatchSizes) -> None:
    """Set the number of micro batches of the next step or evaluation."""
    if isinstance(engine, PlainEngine):
        engine.sizes = sizes
    elif engine.gradient_accumulation_steps() != sizes.accumulation_steps:
        engine.set_train_batch_size(sizes.train_batch_size)


class PlainModel(nn.Module):
    """The whole model with its loss, for the engine without a pipeline: (tokens, (labels, weights)) -> loss."""

    def __init__(self, layers: Sequence[Layer], loss: WeightedLoss, recompute: bool):
        super().__init__()
        gpt = GPT(layers, recompute)
        self.sequential = gpt.sequential
        self.before_loss: Callable[..., HeadInput] = gpt.forward  # type: ignore[assignment]
        self.loss = loss

    def forward(self, batch: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        tokens_BS, labels = batch
        return self.loss(self.before_loss(tokens_BS), labels)


def build_module(layers: Sequence[Layer], loss: WeightedLoss, config: NeoXConfig, grid: ParallelGrid) -> nn.Module:
    """Return this rank's stage of the pipeline, or without a pipeline the whole model with its loss. Call it on every rank."""
    if config.model.precision == "fp16" and grid.device.type == "cpu":
        raise ConfigError("precision fp16 cannot be trained on a CPU. Use --set precision=bfloat16, or fp32.")
    if not find_need_of_deepspeed(config):
        return PlainModel(layers, loss, config.parallelism.checkpoint_activations)
    prepare_deepspeed(grid)
    if config.parallelism.pipe_parallel_size:
        return build_pipeline(layers, loss, config.parallelism, grid, StageJoint.from_model(config.model, grid))
    return PlainModel(layers, loss, config.parallelism.recomputes_blocks)


def build_engine(
    module: nn.Module, optimizer: torch.optim.Optimizer, config: NeoXConfig, sizes: BatchSizes, grid: ParallelGrid
) -> Engine:
    """Return the engine of this rank. Call it on every rank."""
    if config.optimizer.zero_stage == 0:
        log.info("ZeRO stage 0 runs as stage 1, which gives the same weights and divides the optimizer states over the data ranks")
    need = find_need_of_deepspeed(config)
    if not need:
        return PlainEngine(module, optimizer, config, sizes, grid)
    log.info("DeepSpeed's engine is used, because of %s", need)
    with redirect_stdout(io.StringIO()) as printed:
        engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config=make_deepspeed_dict(config, sizes),
            mpu=None if isinstance(module, PipelineModule) else ModelParallelUnit(),
            dist_init_required=False,
        )
    log.debug("%s", printed.getvalue())
    if not isinstance(engine.optimizer, BF16_Optimizer):
        replace_norm_methods(engine.optimizer)
    return engine
