"""The weights of a checkpoint alone, into a module of any layout, from files of any pipeline and tensor-parallel size.

load_weights(gpt, folder, model, vocab_size)                       into a whole model
load_weights(engine.module, folder, model, vocab_size, grid)       into this rank's part of one
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neox_code.checkpoint.layout import (
    MERGED_CONFIG,
    RUN_RECORD,
    WHOLE_MODEL_NAME,
    layer_files,
    model_files,
    require_whole_weights,
)
from neox_code.checkpoint.merge_ranks import fit_vocabulary, merge, our_name, part_of
from neox_code.checkpoint.serialization import load_file
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.model.gpt import TIED_EMBEDDING
from neox_code.model.sharding import sharding_of
from neox_code.parallel.grid import ParallelGrid, single_process_grid

StateDict = Mapping[str, torch.Tensor]
WHOLE = single_process_grid()
"""The layout of a whole model."""

OTHER_LAYOUT = "Choose a checkpoint in GPT-NeoX's layout."


def load_weights(module: nn.Module, folder: Path, model: ModelConfig, vocab_size: int, grid: ParallelGrid = WHOLE) -> None:
    """Fill a module (model.gpt.GPT, a pipeline stage or a tensor rank's part) from a checkpoint of any layout.

    Raises CheckpointError if a file is missing or damaged, or a parameter is missing, left over or of another shape.
    """
    found = read_weights(folder, model)
    wanted = {whole_model_name(name): parameter for name, parameter in module.named_parameters()}
    for name in wanted:
        if name not in found:
            raise CheckpointError(
                f"{folder} holds no {name}. Use the configuration that it was trained with: {folder / 'configs'}."
            )
    if grid.pipeline_size == 1 and (extra := sorted(found.keys() - wanted.keys())):
        raise CheckpointError(
            f"{folder} holds {extra[0]} and {len(extra) - 1} more parameters that this model lacks. "
            f"Use the configuration that it was trained with: {folder / 'configs'}."
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            weight = found.pop(name)
            if sharding_of(name).is_vocabulary:
                weight = fit_vocabulary(name, weight, parameter.shape[0] * grid.tensor_size, vocab_size)
            weight = part_of(name, weight, grid.tensor_rank, grid.tensor_size, model)
            if weight.shape != parameter.shape:
                raise CheckpointError(
                    f"{name} has shape {tuple(weight.shape)} in {folder} and {tuple(parameter.shape)} in this model. "
                    f"Use the configuration that it was trained with: {folder / 'configs'}."
                )
            parameter.copy_(weight)


def whole_model_name(name: str) -> str:
    """Return the name in a whole model of a parameter of a pipeline stage.

    >>> whole_model_name("3.mlp.dense_h_to_4h.weight"), whole_model_name("tied_modules.embed.word_embeddings.weight")
    ('sequential.3.mlp.dense_h_to_4h.weight', 'sequential.0.word_embeddings.weight')
    """
    name = name.replace(f"tied_modules.{TIED_EMBEDDING}.", "0.", 1)
    return name if name.startswith("sequential.") else f"sequential.{name}"


def has_summed_row_biases(model: ModelConfig, folder: Path) -> bool:
    """Return True if a row bias of the checkpoint's model is the sum of those in its tensor ranks' files (see `merge_ranks`).

    That holds for every file of GPT-NeoX and of this package with `gpt_j_residual`, except those that this package wrote before it
    followed GPT-NeoX: they have a merged configuration but no record of the run.
    """
    is_older = (folder / "configs" / MERGED_CONFIG).exists() and not (folder / RUN_RECORD).exists()
    return model.gpt_j_residual and not is_older


def read_weights(folder: Path, model: ModelConfig) -> dict[str, torch.Tensor]:
    """Return all weights of a checkpoint, whole, as `sequential.INDEX.NAME`; from layer files, else from the model state files."""
    layers = layer_files(folder)
    if layers:
        parts = {place: require_state_dict(path, load_file(path)) for place, path in layers.items()}
        return merge_layers(folder, parts, model)
    models = model_files(folder)
    if not models:
        require_whole_weights(folder)
        raise CheckpointError(
            f"{folder} holds neither layer_*-model_*-model_states.pt nor mp_rank_*_model_states.pt. Check the path."
        )
    modules = {rank: read_module(path) for rank, path in models.items()}
    if not any(modules.values()):
        raise CheckpointError(f"{folder} has lost its layer files: mp_rank_*_model_states.pt hold no weights. Copy it again.")
    split: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
    for rank, state in modules.items():
        for name, weight in state.items():
            match = WHOLE_MODEL_NAME.fullmatch(name)
            if not match:
                raise CheckpointError(
                    f"{models[rank]} holds {name}, which is not of the form sequential.LAYER.NAME. {OTHER_LAYOUT}"
                )
            split.setdefault((int(match[1]), rank), {})[match[2]] = weight
    return merge_layers(folder, split, model)


def read_module(path: Path) -> StateDict:
    """Return the weights in a model state file; {} if the layer files have them."""
    content = load_file(path)
    return require_state_dict(path, (content.get("module") or {}) if isinstance(content, Mapping) else content)


def require_state_dict(path: Path, content: Any) -> StateDict:
    """Return `content` if it is a mapping of names to tensors, else raise CheckpointError."""
    is_one = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )
    if not is_one:
        raise CheckpointError(f"{path} holds a {type(content).__name__} that is no tensors by name. {OTHER_LAYOUT}")
    return content


def merge_layers(folder: Path, parts: Mapping[tuple[int, int], StateDict], model: ModelConfig) -> dict[str, torch.Tensor]:
    """Return the weights merged over the tensor ranks; `parts` has a state dict by layer index and tensor rank."""
    is_summed = has_summed_row_biases(model, folder)
    tensor_size = 1 + max(rank for _, rank in parts)
    whole = {}
    for index in sorted({index for index, _ in parts}):
        if missing := [rank for rank in range(tensor_size) if (index, rank) not in parts]:
            raise CheckpointError(f"{folder} lacks layer {index:02d} of tensor rank {missing[0]}. Copy the checkpoint again.")
        states = [parts[index, rank] for rank in range(tensor_size)]
        check_equal_shapes(folder, index, states)
        for name in states[0]:
            if ours := our_name(name):
                place = f"sequential.{index}.{ours}"
                whole[place] = merge(ours, [state[name] for state in states], model, is_summed)
    return whole


def check_equal_shapes(folder: Path, index: int, states: Sequence[StateDict]) -> None:
    """Raise CheckpointError unless the tensor ranks' parts of a layer have the same names and shapes."""
    for rank, state in enumerate(states):
        for name in sorted(state.keys() | states[0].keys()):
            shapes = [tuple(part[name].shape) if name in part else None for part in (states[0], state)]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"layer {index:02d} of {folder} has {name} in shape {shapes[0]} on tensor rank 0 and {shapes[1]} on {rank}: "
                    "the files are of different runs. Copy the checkpoint again."
                )
