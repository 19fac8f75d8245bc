"""Merge the parts of tensor ranks into whole weights, and divide whole weights into parts, by the table in `model.sharding`.

merge_parts(name, parts, model)                 one parameter of all tensor ranks -> the whole
cut_part(name, whole, rank, size, model)         the inverse
make_file_part(name, whole, rank, size, model)    the part as a checkpoint's file holds it
get_name_in_file(name, model)                       its name there; find_our_name is the inverse
get_name_in_whole_model(name)                      from its name in a pipeline stage

In GPT-NeoX's files the row biases of a model with `gpt_j_residual` are summands: GPT-NeoX adds each rank's bias before it sums over
the ranks. With a sequential residual every rank has a full copy. This package adds the bias once, after the sum. It writes what
GPT-NeoX reads: the bias on tensor rank 0 and zeros on the others.
"""

from collections.abc import Sequence

import torch

from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.model.gpt import TIED_EMBEDDING
from neox_code.model.sharding import SHARDING, count_stacked_rows, get_sharding

DERIVED = ("attention.rotary_emb.inv_freq", "attention.alibi_embed.slopes", "position_embeddings.inv_freq")
"""Entries of GPT-NeoX's files that this package computes from the configuration. checkpoint.buffers writes the entries."""


def find_our_name(name: str) -> str | None:
    """Return our name for an entry in a checkpoint of any GPT-NeoX version; None if the entry is not a parameter.

    >>> find_our_name("mlp.linear1.weight"), find_our_name("attention.rotary_emb.inv_freq")
    ('mlp.dense_h_to_4h.weight', None)
    """
    if name.endswith(DERIVED):
        return None
    for ours, sharding in SHARDING.items():
        if sharding.newer_name and name.endswith(sharding.newer_name):
            return name.removesuffix(sharding.newer_name) + ours
    return name


def get_name_in_file(name: str, model: ModelConfig) -> str:
    """Return the name under which a parameter is written: GPT-NeoX's newer name if the activation is gated, else the older name.

    GPT-NeoX reads a gated feed-forward layer only by its newer names. All versions of GPT-NeoX's converters read the older names.
    """
    if model.is_gated:
        for ours, sharding in SHARDING.items():
            if sharding.newer_name and name.endswith(ours):
                return name.removesuffix(ours) + sharding.newer_name
    return name


def get_name_in_whole_model(name: str) -> str:
    """Convert a parameter's name in a pipeline stage to its name in a whole model.

    >>> get_name_in_whole_model("3.mlp.dense_h_to_4h.weight"), get_name_in_whole_model("tied_modules.embed.word_embeddings.weight")
    ('sequential.3.mlp.dense_h_to_4h.weight', 'sequential.0.word_embeddings.weight')
    """
    name = name.replace(f"tied_modules.{TIED_EMBEDDING}.", "0.", 1)
    return name if name.startswith("sequential.") else f"sequential.{name}"


def merge_parts(name: str, parts: Sequence[torch.Tensor], model: ModelConfig, has_summed_row_biases: bool = False) -> torch.Tensor:
    """Return the whole parameter from the parts of all tensor ranks, in rank order.

    With `has_summed_row_biases` the bias of a row-parallel layer is the sum over the ranks; otherwise every rank has a copy.
    """
    sharding = get_sharding(name)
    if len(parts) == 1:
        return parts[0]
    if has_summed_row_biases and sharding.is_row_bias:
        return torch.stack(list(parts)).double().sum(0).to(parts[0].dtype)
    if sharding.dim is None:
        return parts[0]
    rows = count_stacked_rows(name, model)
    if parts[0].shape[0] * len(parts) != sum(rows):
        return torch.cat(list(parts), sharding.dim)
    shares = [part.split([count // len(parts) for count in rows]) for part in parts]
    return torch.cat([share for matrix in zip(*shares, strict=True) for share in matrix])


def cut_part(name: str, whole: torch.Tensor, tensor_rank: int, tensor_size: int, model: ModelConfig) -> torch.Tensor:
    """Return one tensor rank's part of a whole parameter: the inverse of `merge_parts`.

    The bias of a row-parallel layer stays whole. Raise CheckpointError if the parameter cannot be divided by `tensor_size`.
    """
    dim = get_sharding(name).dim
    if dim is None or tensor_size == 1:
        return whole
    rows = count_stacked_rows(name, model)
    matrices = whole.split(list(rows)) if sum(rows) == whole.shape[0] else (whole,)
    if any(matrix.shape[dim] % tensor_size for matrix in matrices):
        raise CheckpointError(
            f"{name} has shape {tuple(whole.shape)}, which cannot be divided over {tensor_size} tensor-parallel ranks along "
            f"dimension {dim}. Choose a model_parallel_size that divides it."
        )
    return torch.cat([matrix.chunk(tensor_size, dim)[tensor_rank] for matrix in matrices], dim)


def make_file_part(name: str, whole: torch.Tensor, tensor_rank: int, tensor_size: int, model: ModelConfig) -> torch.Tensor:
    """Return one tensor rank's part of the parameter `whole`, as GPT-NeoX writes it to a file.

    With `gpt_j_residual`, the biases of row-parallel layers are zeros in the files of all ranks except 0.
    """
    if is_zero_in_file(name, tensor_rank, model):
        return torch.zeros_like(whole)
    return cut_part(name, whole, tensor_rank, tensor_size, model)


def is_zero_in_file(name: str, tensor_rank: int, model: ModelConfig) -> bool:
    """Return True for the bias of a row-parallel layer if only tensor rank 0's file has its value and this rank's has zeros."""
    return model.gpt_j_residual and tensor_rank > 0 and get_sharding(name).is_row_bias


def resize_vocabulary(name: str, weight: torch.Tensor, rows: int, vocab_size: int) -> torch.Tensor:
    """Remove padding rows, or add rows of zeros, until the weight has `rows` rows.

    Raise CheckpointError if the weight has fewer rows than the vocabulary has entries.
    """
    if weight.shape[0] < vocab_size:
        raise CheckpointError(
            f"{name} has {weight.shape[0]:,} rows, but the vocabulary has {vocab_size:,} entries. "
            "Use the vocabulary of the training."
        )
    if weight.shape[0] >= rows:
        return weight[:rows]
    return torch.cat([weight, weight.new_zeros(rows - weight.shape[0], weight.shape[1])])
