"""The weights of a checkpoint alone, whole, into a plain module; from any pipeline and tensor-parallel size."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neox_code.checkpoint.layout import layer_files, model_files
from neox_code.checkpoint.reshard import fit_vocabulary, merge, our_name
from neox_code.checkpoint.serialization import load_file
from neox_code.errors import CheckpointError
from neox_code.model.gpt import stacked_rows

StateDict = Mapping[str, torch.Tensor]
StackedRows = Mapping[str, tuple[int, ...]]
NOTHING_STACKED: StackedRows = {}

WHOLE_MODEL_NAME = re.compile(r"(?:sequential\.)?(\d+)\.(.+)")
"""Layer index and name within the layer, in the files of a run without a pipeline."""

OTHER_LAYOUT = "Choose a checkpoint in GPT-NeoX's layout."


def load_weights(module: nn.Module, folder: Path, vocab_size: int) -> None:
    """Fills a plain module (model.gpt.GPT) from a checkpoint of any pipeline and tensor-parallel size.

    Raises CheckpointError where a file is missing or damaged, or a parameter is missing, left over or of another shape.
    """
    found = read_weights(folder, stacked_rows(module))
    wanted = dict(module.named_parameters())
    for name in wanted:
        if name not in found:
            raise CheckpointError(
                f"{folder} holds no {name}. Use the configuration that it was trained with: {folder / 'configs'}."
            )
    if extra := sorted(found.keys() - wanted.keys()):
        raise CheckpointError(
            f"{folder} holds {extra[0]} and {len(extra) - 1} more parameters that this model lacks. "
            f"Use the configuration that it was trained with: {folder / 'configs'}."
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            weight = found.pop(name)
            if name.endswith(("word_embeddings.weight", "final_linear.weight")):
                weight = fit_vocabulary(name, weight, parameter.shape[0], vocab_size)
            if weight.shape != parameter.shape:
                raise CheckpointError(
                    f"{name} has shape {tuple(weight.shape)} in {folder} and {tuple(parameter.shape)} in this model. "
                    f"Use the configuration that it was trained with: {folder / 'configs'}."
                )
            parameter.copy_(weight)


def read_weights(folder: Path, stacked: StackedRows = NOTHING_STACKED) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint, whole, as `sequential.INDEX.NAME`; from layer files, else from the model state files.

    `stacked` is model.gpt.stacked_rows of the model that it is for.
    """
    layers = layer_files(folder)
    if layers:
        return merge_layers(folder, {place: state_dict(path, load_file(path)) for place, path in layers.items()}, stacked)
    models = model_files(folder)
    if not models:
        raise CheckpointError(
            f"{folder} holds neither layer_*-model_*-model_states.pt nor mp_rank_*_model_states.pt. Check the path."
        )
    modules = {rank: module_of(path) for rank, path in models.items()}
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
    return merge_layers(folder, split, stacked)


def module_of(path: Path) -> StateDict:
    """The weights in a model state file; none where layer files have them."""
    content = load_file(path)
    return state_dict(path, (content.get("module") or {}) if isinstance(content, Mapping) else content)


def state_dict(path: Path, content: Any) -> StateDict:
    """The content of a file, found to be tensors by name; anything else is a CheckpointError."""
    is_one = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )
    if not is_one:
        raise CheckpointError(f"{path} holds a {type(content).__name__} that is no tensors by name. {OTHER_LAYOUT}")
    return content


def merge_layers(folder: Path, parts: Mapping[tuple[int, int], StateDict], stacked: StackedRows) -> dict[str, torch.Tensor]:
    """(layer index, tensor rank) -> state dict, merged over the tensor ranks."""
    tensor_size = 1 + max(rank for _, rank in parts)
    whole = {}
    for index in sorted({index for index, _ in parts}):
        if missing := [rank for rank in range(tensor_size) if (index, rank) not in parts]:
            raise CheckpointError(f"{folder} lacks layer {index:02d} of tensor rank {missing[0]}. Copy the checkpoint again.")
        states = [parts[index, rank] for rank in range(tensor_size)]
        check_alike(folder, index, states)
        for name in states[0]:
            if ours := our_name(name):
                place = f"sequential.{index}.{ours}"
                whole[place] = merge(ours, [state[name] for state in states], stacked.get(place, ()))
    return whole


def check_alike(folder: Path, index: int, states: Sequence[StateDict]) -> None:
    """Raises CheckpointError unless the tensor ranks' parts of a layer have the same names and shapes."""
    for rank, state in enumerate(states):
        for name in sorted(state.keys() | states[0].keys()):
            shapes = [tuple(part[name].shape) if name in part else None for part in (states[0], state)]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"layer {index:02d} of {folder} has {name} in shape {shapes[0]} on tensor rank 0 and {shapes[1]} on {rank}: "
                    "the files are of different runs. Copy the checkpoint again."
                )
