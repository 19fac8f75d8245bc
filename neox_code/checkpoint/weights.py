"""The weights of a checkpoint alone, whole, into a plain module; from any pipeline and tensor-parallel size."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from neox_code.checkpoint.layout import layer_files, model_files
from neox_code.checkpoint.reshard import fit_vocabulary, merge, our_name
from neox_code.checkpoint.serialization import load_file
from neox_code.errors import CheckpointError


def load_weights(module: nn.Module, folder: Path, vocab_size: int) -> None:
    """Fills a plain module (model.gpt.GPT) from a checkpoint of any pipeline and tensor-parallel size.

    Raises CheckpointError where a file is missing or damaged, or a parameter is missing, left over or of another shape.
    """
    found = read_weights(folder)
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


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint, whole, as `sequential.INDEX.NAME`; from layer files, else from the model state files."""
    layers = layer_files(folder)
    if layers:
        parts = {place: load_file(path) for place, path in layers.items()}
        return merge_layers(folder, parts)
    models = model_files(folder)
    if not models:
        raise CheckpointError(
            f"{folder} holds neither layer_*-model_*-model_states.pt nor mp_rank_*_model_states.pt. Check the path."
        )
    prefix = "sequential."
    modules = {rank: load_file(path).get("module") or {} for rank, path in models.items()}
    if not any(modules.values()):
        raise CheckpointError(f"{folder} has lost its layer files: mp_rank_*_model_states.pt hold no weights. Copy it again.")
    split: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
    for rank, state in modules.items():
        for name, weight in state.items():
            index, rest = name.removeprefix(prefix).split(".", 1)
            split.setdefault((int(index), rank), {})[rest] = weight
    return merge_layers(folder, split)


def merge_layers(folder: Path, parts: Mapping[tuple[int, int], Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """(layer index, tensor rank) -> state dict, merged over the tensor ranks."""
    tensor_size = 1 + max(rank for _, rank in parts)
    whole = {}
    for index in sorted({index for index, _ in parts}):
        if missing := [rank for rank in range(tensor_size) if (index, rank) not in parts]:
            raise CheckpointError(f"{folder} lacks layer {index:02d} of tensor rank {missing[0]}. Copy the checkpoint again.")
        for name in parts[index, 0]:
            if ours := our_name(name):
                whole[f"sequential.{index}.{ours}"] = merge(ours, [parts[index, rank][name] for rank in range(tensor_size)])
    return whole
