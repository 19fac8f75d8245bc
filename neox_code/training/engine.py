"""The only door to deepspeed.initialize: a model and an optimizer become an engine on this rank.

`pipe_parallel_size` of 1 and more makes a PipelineModule and DeepSpeed's pipeline engine; 0 makes one plain module.
"""

import io
from contextlib import redirect_stdout
from functools import partial

import deepspeed
import torch
from deepspeed import DeepSpeedEngine
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.pipe.engine import PipelineEngine
from torch import nn

from neox_code.config.deepspeed import deepspeed_dict
from neox_code.config.derive import padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.logs import get_logger
from neox_code.model.gpt import DTYPES, GPT, gpt_layers
from neox_code.model.loss import VocabShard, vocab_shard, weighted_loss
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.mpu import ModelParallelUnit
from neox_code.parallel.pipeline import build_pipeline, prepare_deepspeed
from neox_code.training.gradient_norm import take_norm_in_one_pass
from neox_code.training.optimizer import build_optimizer

log = get_logger(__name__)

Engine = DeepSpeedEngine
"""What trains on a rank: module, optimizer and communication in one."""


def build_layers(config: NeoXConfig, vocab_size: int, grid: ParallelGrid) -> tuple[list, VocabShard]:
    """The model's list of layers in the training precision, and this rank's part of the vocabulary."""
    model = config.model
    if model.precision == "fp16" and grid.device.type == "cpu":
        raise ConfigError("precision fp16 cannot be trained on a CPU. Use --set precision=bfloat16, or fp32.")
    padded = padded_vocab_size(vocab_size, model.make_vocab_size_divisible_by, grid.tensor_size)
    layers = gpt_layers(model, vocab_size, padded, grid, DTYPES[model.precision], config.training.seed)
    return layers, vocab_shard(vocab_size, padded, grid, model.mask_padded_vocab)


def pipeline_loss(shard: VocabShard, logits_BSV: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Compute the loss on the last stage from labels (labels_BS, weights_BS)."""
    return weighted_loss(logits_BSV, *labels, shard)


def has_pipeline(engine: Engine) -> bool:
    """Whether the engine runs a schedule over stages, and takes an iterator of batches instead of one batch."""
    return isinstance(engine, PipelineEngine)


class PlainModel(nn.Module):
    """The whole model with its loss, for the engine without a pipeline: (tokens, (labels, weights)) -> loss."""

    def __init__(self, layers: list, shard: VocabShard, recompute: bool):
        super().__init__()
        gpt = GPT(layers, recompute)
        self.sequential = gpt.sequential
        self.logits = gpt.forward
        self.shard = shard

    def forward(self, batch: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        tokens_BS, labels = batch
        return pipeline_loss(self.shard, self.logits(tokens_BS), labels)


def build_engine(config: NeoXConfig, vocab_size: int, grid: ParallelGrid) -> Engine:
    """Model, optimizer and engine for this rank. Called on every rank."""
    prepare_deepspeed(grid)
    if config.optimizer.zero_stage == 0:
        log.info("ZeRO stage 0 runs as stage 1, which gives the same weights and divides the optimizer states over the data ranks")
    layers, shard = build_layers(config, vocab_size, grid)
    if config.parallelism.pipe_parallel_size:
        module: nn.Module = build_pipeline(layers, partial(pipeline_loss, shard), config.parallelism, grid)
    else:
        module = PlainModel(layers, shard, config.parallelism.checkpoint_activations)
    with redirect_stdout(io.StringIO()) as printed:
        engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=build_optimizer(config.optimizer, module.parameters()),
            config=deepspeed_dict(config, grid.data_size),
            mpu=None if config.parallelism.pipe_parallel_size else ModelParallelUnit(),
            dist_init_required=False,
        )
    log.debug("%s", printed.getvalue())
    if not isinstance(engine.optimizer, BF16_Optimizer):
        take_norm_in_one_pass(engine.optimizer)
    return engine
