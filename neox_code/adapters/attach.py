"""Prepare a model for training with few parameters: frozen weights, a base in few bits, low-rank adapters, rows of tokens, noise.

    prepare_adapters(module, config, vocab_size, grid)      # before the optimizer is built; `load` has the base

Afterwards the parameters with `requires_grad` are those that are trained; LoRA+'s ratio is their attribute `lr_ratio`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from neox_code.adapters.low_rank import LowRank, LowRankSettings, Selection
from neox_code.adapters.quantized_base import quantize_base
from neox_code.checkpoint.consistency import compute_expected_shapes
from neox_code.checkpoint.foreign_names import ForeignRow, list_foreign_rows
from neox_code.checkpoint.layout import find_checkpoint
from neox_code.checkpoint.weights import load_weights
from neox_code.config.deepspeed import find_need_of_deepspeed
from neox_code.config.fields import FIELDS
from neox_code.config.hugging_face import find_nearest_architecture
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.model.embedding import Embedding, Head
from neox_code.parallel.collectives import sum_gradients
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.seeds import seed_layer

LINEARS = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
"""Names of a block's linear layers."""

ALL_LINEAR = "all-linear"
TRAINED = Selection("trained")
"""The adapter of a model in training is always applied."""


def list_linear_rows(model: ModelConfig) -> dict[str, ForeignRow]:
    """Return our name of each linear layer (`sequential.2.mlp.dense_h_to_4h`) -> its parts in Hugging Face's model of this shape.

    A shape that Hugging Face lacks has the names of GPTNeoX.
    """
    nearest, conflicts = find_nearest_architecture(model)
    rows = list_foreign_rows("gpt_neox" if conflicts else nearest, model)
    return {
        name.removesuffix(".weight"): row for name, row in rows.items() if name.endswith(tuple(f"{end}.weight" for end in LINEARS))
    }


def list_modules(row: ForeignRow) -> list[str]:
    """Return the modules of Hugging Face's model that a row of the table names.

    >>> list_modules(ForeignRow(("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight")))
    ['model.layers.0.self_attn.q_proj', 'model.layers.0.self_attn.k_proj']
    """
    return [name.rpartition(".")[0] for name in row.names]


def is_target(target: str, ours: str, module: str) -> bool:
    """Return True if an entry of `lora_target_modules` chooses a module: it is the end of its name or of our layer's name."""
    return target == ALL_LINEAR or any(f".{name}".endswith(f".{target}") for name in (ours, module))


def choose_targets(model: ModelConfig, targets: Sequence[str], frozen_layers: Sequence[int] = ()) -> dict[str, list[str]]:
    """Return our name of each layer that gets an adapter -> its chosen parts, by their last names. Raise ConfigError."""
    found: dict[str, list[str]] = {}
    used: set[str] = set()
    rows = list_linear_rows(model)
    for ours, row in rows.items():
        for module in list_modules(row):
            matches = [target for target in targets if is_target(target, ours, module)]
            used.update(matches)
            if matches and int(ours.split(".")[1]) - 2 not in frozen_layers:
                found.setdefault(ours, []).append(module.rpartition(".")[2])
    if unknown := [target for target in targets if target not in used]:
        names = sorted({module.rpartition(".")[2] for row in rows.values() for module in list_modules(row)})
        raise ConfigError(
            f"lora_target_modules has {unknown[0]!r}, and no linear layer of this model's blocks has this name. Choose among "
            f"{', '.join(names)}, {', '.join(LINEARS)} and {ALL_LINEAR}; trained_token_rows trains rows of the embedding."
        )
    if not found:
        raise ConfigError("lora_target_modules and frozen_layers leave no layer for LoRA. Choose other layers.")
    return found


def make_low_rank(
    ours: str, parts: Sequence[str], model: ModelConfig, settings: LowRankSettings, grid: ParallelGrid, dtype: torch.dtype
) -> LowRank:
    """Return an adapter for a layer, with LoRA's initial values: A is random, and B is 0."""
    row, shape = list_linear_rows(model)[ours], compute_expected_shapes(model)[f"{ours}.weight"]
    rows = [len(part) for part in row.split(torch.empty(shape[0], 1, device="meta"), model)]
    return LowRank(ours, row, model, settings, parts, rows, shape[1], grid, dtype)


def get_linear(layers: nn.ModuleDict, ours: str) -> nn.Module:
    """Return a linear layer by our name of it."""
    _, index, inner = ours.split(".", 2)
    return layers[index].get_submodule(inner)


class TrainedRows(nn.Module):
    """A parametrization of an embedding's or head's weight: the rows `ids` are trained, and the others are those of the base."""

    def __init__(self, weight: torch.Tensor, ids: Sequence[int], first: int, grid: ParallelGrid):
        """`weight` is this tensor rank's part, whose first row is row `first` of the vocabulary. All ranks have all of them."""
        super().__init__()
        self.group = grid.tensor_group if grid.tensor_size > 1 else None
        own = [place for place, token in enumerate(ids) if first <= token < first + len(weight)]
        self.ids = tuple(ids)
        self.register_buffer("places", torch.tensor(own, dtype=torch.long), persistent=False)
        self.register_buffer("local_ids", torch.tensor([ids[place] - first for place in own], dtype=torch.long), persistent=False)
        rows = weight.new_zeros(len(ids), weight.shape[1], dtype=torch.float32)
        rows[self.get_buffer("places")] = weight.detach()[self.get_buffer("local_ids")].float()
        if self.group is not None:
            torch.distributed.all_reduce(rows, group=self.group)
        self.rows = nn.Parameter(rows.to(weight.dtype))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        rows = sum_gradients(self.rows, self.group)
        return weight.index_copy(0, self.get_buffer("local_ids"), rows[self.get_buffer("places")])


def prepare_adapters(module: nn.Module, config: NeoXConfig, vocab_size: int, grid: ParallelGrid) -> None:
    """Load the base of a model that is extended, and extend or freeze it as its configuration demands; else change nothing.

    Raise ConfigError for settings that exclude each other, CheckpointError if the base cannot be loaded.
    """
    require_plain_run(config)
    if config.adapter.keeps_base:
        load_weights(module, find_base(config), config.model, vocab_size, grid)
    elif config.adapter.base_bits != 16:
        raise ConfigError(f"{config.format_key('base_bits')} needs frozen weights. Set lora_rank, or remove it.")
    extend_model(module, config, vocab_size, grid)


def extend_model(module: nn.Module, config: NeoXConfig, vocab_size: int, grid: ParallelGrid) -> None:
    """Freeze a model whose weights are loaded, and add what is trained in their place."""
    section = config.adapter
    freeze(module, config)
    if section.neftune_noise_alpha:
        for layer in module.modules():
            if isinstance(layer, Embedding):
                layer.word_embeddings.register_forward_hook(partial(add_noise, section.neftune_noise_alpha))
    if not section.keeps_base:
        return
    layers = module.sequential
    assert isinstance(layers, nn.ModuleDict)
    module.requires_grad_(False)
    if section.base_bits != 16:
        quantize_base(layers, section.base_bits, grid)
    if section.lora_rank:
        attach_trained_adapter(layers, config, grid)
    if section.trains_rows:
        train_token_rows(layers, config, vocab_size, grid)


def find_base(config: NeoXConfig) -> Path:
    """Return the folder of the model that an adapter is added to. Raise ConfigError without one."""
    load, save = config.training.load, config.training.save
    if load is None or (save is not None and Path(load).resolve() == Path(save).resolve()):
        raise ConfigError(f"{name_method(config)} needs a model to begin with. Set load to its folder, which is not save.")
    return find_checkpoint(load, config.training.iteration)


def name_method(config: NeoXConfig) -> str:
    """Return the first key that makes training leave out parameters, with its value; "" if all parameters are trained."""
    keys = ("lora_rank", "trained_token_rows", "first_trained_token_row", "frozen_layers", "frozen_modules")
    given = [key for key in keys if getattr(config.adapter, key) != FIELDS[key].default]
    return config.format_key(given[0]) if given else ""


def require_plain_run(config: NeoXConfig) -> None:
    """Raise ConfigError unless the run has an engine that can train some of the parameters."""
    asked = name_method(config)
    if not asked:
        return
    if needs := find_need_of_deepspeed(config):
        raise ConfigError(f"{asked} cannot be trained with {needs}. Remove the latter.")
    if config.parallelism.sequence_parallel and config.parallelism.model_parallel_size > 1:
        raise ConfigError(f"{asked} cannot be trained with {config.format_key('sequence_parallel')}. Remove the latter.")


def freeze(module: nn.Module, config: NeoXConfig) -> None:
    """Freeze the blocks and the parameters that the configuration names. Raise ConfigError for a name that no parameter has."""
    section, model = config.adapter, config.model
    if wrong := [number for number in section.frozen_layers if not 0 <= number < model.num_layers]:
        raise ConfigError(f"frozen_layers has {wrong[0]}, and the blocks are 0 to {model.num_layers - 1}. Correct it.")
    if section.keeps_base or not (section.frozen_layers or section.frozen_modules):
        return
    unused = set(section.frozen_modules)
    blocks = tuple(f"sequential.{number + 2}." for number in section.frozen_layers)
    for name, parameter in module.named_parameters():
        matches = [part for part in section.frozen_modules if part in name]
        unused.difference_update(matches)
        if matches or name.startswith(blocks):
            parameter.requires_grad_(False)
    if unused:
        raise ConfigError(f"frozen_modules has {min(unused)!r}, which is in no parameter's name. Correct it.")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError("frozen_layers and frozen_modules leave no parameter to train. Remove one of them.")


def attach_trained_adapter(layers: nn.ModuleDict, config: NeoXConfig, grid: ParallelGrid) -> None:
    """Add a new adapter, which is trained, to the chosen layers."""
    section, model = config.adapter, config.model
    settings = read_settings(config)
    targets = choose_targets(model, section.lora_target_modules, section.frozen_layers)
    for number, (ours, parts) in enumerate(targets.items()):
        linear = get_linear(layers, ours)
        dtype = next(layers["0"].parameters()).dtype
        with seed_layer(config.training.seed, number):
            change = make_low_rank(ours, parts, model, settings, grid, dtype)
        change.set_lengths(linear)
        change.attach(linear, "trained", TRAINED)
        linear.adapter = change
        for second in change.lora_B.values():
            second.lr_ratio = section.loraplus_lr_ratio


def read_settings(config: NeoXConfig) -> LowRankSettings:
    section = config.adapter
    return LowRankSettings(section.lora_rank, section.lora_alpha, section.use_rslora, section.use_dora, section.lora_dropout)


def list_trained_rows(config: NeoXConfig, vocab_size: int) -> list[int]:
    """Return the ids of the tokens whose rows are trained, ascending. Raise ConfigError for ids that the vocabulary lacks."""
    section = config.adapter
    first = section.first_trained_token_row
    ids = sorted({*section.trained_token_rows, *(() if first is None else range(first, vocab_size))})
    if not ids or ids[0] < 0 or ids[-1] >= vocab_size:
        key = "trained_token_rows" if section.trained_token_rows else "first_trained_token_row"
        raise ConfigError(f"{config.format_key(key)} names an id outside of the vocabulary, whose ids are 0 to {vocab_size - 1}.")
    return ids


def train_token_rows(layers: nn.ModuleDict, config: NeoXConfig, vocab_size: int, grid: ParallelGrid) -> None:
    """Make the chosen rows of the embedding and of an untied head parameters that are trained."""
    ids = list_trained_rows(config, vocab_size)
    for layer in layers.values():
        owner = layer.word_embeddings if isinstance(layer, Embedding) else layer.final_linear if isinstance(layer, Head) else None
        if owner is not None:
            weight = owner.weight
            assert isinstance(owner, nn.Module) and isinstance(weight, torch.Tensor)
            first = len(weight) * grid.tensor_rank
            parametrize.register_parametrization(owner, "weight", TrainedRows(weight, ids, first, grid), unsafe=True)


def add_noise(alpha: float, embedding: nn.Module, inputs: Any, hidden_BSH: torch.Tensor) -> torch.Tensor:
    """Return the embedding's output with NEFTune's noise (Jain et al. 2023, arXiv:2310.05914), in training alone."""
    if not embedding.training:
        return hidden_BSH
    most = alpha / (hidden_BSH.shape[1] * hidden_BSH.shape[2]) ** 0.5
    return hidden_BSH + torch.zeros_like(hidden_BSH).uniform_(-most, most)
