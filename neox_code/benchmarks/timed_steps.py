"""Optimizer steps of the real engine on random tokens, for benchmarks.

step = build_our_step(config, grid, vocab_size)
step(make_random_tokens(batch, sequence, vocab_size, grid.device))
"""

import itertools
from collections.abc import Callable

import torch

from neox_code.adapters.attach import extend_model
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.model.form import make_training_form
from neox_code.model.gpt import DTYPES, build_layers
from neox_code.model.loss import WeightedLoss, make_vocab_shard
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine, build_engine, build_module
from neox_code.training.optimizer import build_optimizer
from neox_code.training.step import choose_step_functions

OptimizerStep = Callable[[torch.Tensor], None]
"""A function that makes one optimizer step on tokens_BS with S + 1 columns."""


def build_engine_for_steps(config: NeoXConfig, vocab_size: int, grid: ParallelGrid) -> Engine:
    """Return the engine that `pretrain` trains, with its initial weights, for a vocabulary of any size."""
    model = config.model
    padded = compute_padded_vocab_size(vocab_size, model.make_vocab_size_divisible_by, grid.tensor_size)
    form = make_training_form(model, config.parallelism, eod_id=0)
    layers = build_layers(model, vocab_size, padded, grid, DTYPES[model.precision], config.training.seed, form=form)
    shard = make_vocab_shard(vocab_size if model.mask_padded_vocab else padded, padded, grid)
    loss = WeightedLoss(shard, model.z_loss_coefficient)
    module = build_module(layers, loss, config, grid)
    extend_model(module, config, vocab_size, grid)
    optimizer = build_optimizer(config.optimizer, module.named_parameters(), model, grid)
    return build_engine(module, optimizer, config, config.batch_sizes(grid.data_size), grid)


def build_our_step(config: NeoXConfig, grid: ParallelGrid, vocab_size: int) -> OptimizerStep:
    """Return a step of DeepSpeed's engine; all micro batches of the step are the same."""
    engine = build_engine_for_steps(config, vocab_size, grid)
    step, _ = choose_step_functions(engine)

    def run(tokens_BS: torch.Tensor) -> None:
        inputs, labels = tokens_BS[:, :-1].contiguous(), tokens_BS[:, 1:].contiguous()
        step(engine, itertools.repeat((inputs, (labels, torch.ones(labels.shape, device=labels.device)))), grid)

    return run


def make_random_tokens(batch: int, sequence: int, vocab_size: int, device: torch.device) -> torch.Tensor:
    """Return random tokens, int64 of shape [B, S + 1]. The labels are the inputs shifted by one."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocab_size, (batch, sequence + 1), generator=generator).to(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
