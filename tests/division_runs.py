"""Training steps of one batch at several layouts, for tests: losses, weights and gradients, joined over all ranks.

    results = run_layouts(4, file, [{"model_parallel_size": 2, "pipe_parallel_size": 2}, {"pipe_parallel_size": 4}])

A run has one set of processes for all its layouts, which have the same number of ranks.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param
from distributed_runs import run_ranks

from neox_code.benchmarks.timed_steps import build_engine_for_steps
from neox_code.checkpoint.merge_ranks import merge_parts
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.launch.command import choose_port
from neox_code.parallel.counter_numbers import derive_keys, make_key
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.startup import startup
from neox_code.training.engine import Engine, set_rate
from neox_code.training.plain_engine import PlainEngine
from neox_code.training.step import choose_step_functions

LENGTH = 64
Weights = dict[str, torch.Tensor]


@dataclass
class Division:
    """What a layout computed. Weights have the names of a pipeline; a whole model merges those of tensor ranks and stages."""

    losses: list[float]
    validation_loss: float
    weights: Weights
    """Initial values."""
    gradients: Weights


def make_samples(vocab_size: int, count: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens [count, LENGTH + 1] and a mask [count, LENGTH] whose rows keep between none and `share` of their positions."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, vocab_size, (count, LENGTH + 1), generator=generator)
    kept = share * torch.linspace(0, 1, count)[:, None]
    return tokens, (torch.rand(count, LENGTH, generator=generator) < kept).float()


def read_weights(engine: Engine) -> Weights:
    """Return the fp32 master weights of this stage by their names in the pipeline."""
    if isinstance(engine, PlainEngine):
        found = {}
        for group in engine.groups:
            parts = [torch.empty_like(group.master) for _ in range(engine.grid.data_size)]
            dist.all_gather(parts, group.master, group=engine.grid.data_group)
            for parameter, offset in group.offsets.items():
                found[parameter] = torch.cat(parts)[offset:][: parameter.numel()].view(parameter.shape)
    else:
        found = {parameter: safe_get_full_fp32_param(parameter).clone() for parameter in engine.module.parameters()}
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    return {names[each].removeprefix("sequential.").replace("tied_modules.embed.", "0."): value for each, value in found.items()}


def list_batches(config: NeoXConfig, vocab_size: int, share: float, grid: ParallelGrid) -> Iterator[Any]:
    """Yield this data rank's micro batches of the samples, with the keys of dropout if the model has dropout."""
    sizes = config.batch_sizes(grid.data_size)
    tokens, mask = make_samples(vocab_size, sizes.train_batch_size, share)
    for part, rows in enumerate(torch.arange(len(tokens)).split(sizes.micro_batch_size)):
        if part % grid.data_size == grid.data_rank:
            inputs = tokens[rows, :-1]
            keys = derive_keys(torch.tensor(make_key(config.training.seed)), rows)
            has_keys = config.model.hidden_dropout or config.model.attention_dropout
            yield (inputs, keys) if has_keys else inputs, (tokens[rows, 1:], mask[rows] if share < 2 else None)


def train_divisions(
    file: Path, layouts: Sequence[Mapping[str, Any]], ports: Sequence[int], vocab_size: int, share: float, steps: int
) -> list[tuple[Division, ParallelGrid]]:
    """Make the steps of all layouts on this rank: by SGD, the first at rate 1, so that the weights change by the gradient.

    Each layout has a port of its own: a rank that is ahead must not connect where rank 0 ends the layout before.
    """
    results = []
    for keys, port in zip(layouts, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        sgd = {"optimizer": {"type": "SGD", "params": {"lr": 1.0}}, "warmup": 0.0, "gradient_clipping": 0.0, "weight_decay": 0.0}
        config = NeoXConfig.load([file], sgd | dict(keys))
        with startup(config.parallelism) as grid:
            engine = build_engine_for_steps(config, vocab_size, grid)
            step, evaluate = choose_step_functions(engine)
            before, losses = read_weights(engine), []
            valid, counted = evaluate(engine, list_batches(config, vocab_size, share, grid), grid)
            mask = make_samples(vocab_size, config.batch_sizes(grid.data_size).train_batch_size, share)[1]
            assert counted == (mask.sum() if share < 2 else mask.numel())
            for rate in (1.0, *[0.1] * (steps - 1)):
                set_rate(engine, rate, rate)
                losses.append(step(engine, list_batches(config, vocab_size, share, grid), grid)().loss)
                if rate == 1.0:
                    after = read_weights(engine)
            place = ParallelGrid(grid.pipeline_size, grid.data_size, grid.tensor_size, grid.rank)
            results.append((Division(losses, valid, before, {name: before[name] - after[name] for name in before}), place))
    return results


def join_weights(own: Sequence[tuple[Weights, ParallelGrid]], model: ModelConfig, vocab_size: int) -> Weights:
    """Return the weights of the whole model without padding of the vocabulary; data ranks must have the same.

    With a tied head, the last stage has an unused copy of the other weights of the embedding.
    """
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for weights, grid in own:
        for name, value in weights.items():
            first = parts.setdefault(name, {}).setdefault(grid.tensor_rank, value)
            is_unused = grid.pipeline_stage > 0 and name.startswith("0.") and name != "0.word_embeddings.weight"
            assert is_unused or torch.equal(first, value), name
    whole = {name: merge_parts(name, [by_rank[rank] for rank in sorted(by_rank)], model) for name, by_rank in parts.items()}
    is_vocabulary = {"word_embeddings.weight", "final_linear.weight"}
    return {name: value[:vocab_size] if name.split(".", 1)[1] in is_vocabulary else value for name, value in whole.items()}


def run_layouts(
    ranks: int, file: Path, layouts: Sequence[Mapping[str, Any]], vocab_size: int = 512, share: float = 1.0, steps: int = 1
) -> list[Division]:
    """Return what each layout computed from the same samples, on so many ranks; all ranks must report the same losses."""
    divisions = []
    ports = [choose_port(0, is_default=True) for _ in layouts]
    by_rank = run_ranks(ranks, train_divisions, file, layouts, ports, vocab_size, share, steps)
    for keys, own in zip(layouts, zip(*by_rank, strict=True), strict=True):
        first, model = own[0][0], NeoXConfig.load([file], dict(keys)).model
        assert all((each.losses, each.validation_loss) == (first.losses, first.validation_loss) for each, _ in own)
        weights, gradients = (
            join_weights([(getattr(each, name), grid) for each, grid in own], model, vocab_size)
            for name in ("weights", "gradients")
        )
        divisions.append(Division(first.losses, first.validation_loss, weights, gradients))
    return divisions


def measure_error(gradients: Weights, expected: Weights) -> float:
    """Return the norm of the difference of all gradients, divided by the norm of the expected ones."""
    assert gradients.keys() == expected.keys()
    return float(
        measure_norm([gradients[name].double() - expected[name].double() for name in expected]) / measure_norm(expected.values())
    )


def measure_norm(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack([tensor.double().square().sum() for tensor in tensors]).sum().sqrt()
