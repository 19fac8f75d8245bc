"""From the parts that tensor ranks hold to whole weights, and back. Shapes as in checkpoint.layout and model.gpt.

merge(name, parts)                              one parameter of all tensor ranks -> the whole
part_of(name, whole, rank, size)                the inverse

In GPT-NeoX's files the row biases (ROW_BIASES) of a model with `gpt_j_residual` are summands: GPT-NeoX adds each rank's before it
sums over the ranks. With a sequential residual every rank has a full copy. This package adds the bias once, after the sum, and
writes what GPT-NeoX reads: the bias on tensor rank 0 and zeros on the others (see `checkpoint.buffers`).
"""

from collections.abc import Sequence

import torch

from neox_code.errors import CheckpointError
from neox_code.model.gpt import COLUMN_DIVIDED, ROW_DIVIDED

RENAMED = {"mlp.linear1.": "mlp.dense_h_to_4h.", "mlp.linear2.": "mlp.dense_4h_to_h."}
"""Newer GPT-NeoX name -> the name of PolyCoder's and Pythia's time, which is ours."""

DERIVED = ("attention.rotary_emb.inv_freq", "attention.alibi_embed.slopes", "position_embeddings.inv_freq")
"""GPT-NeoX's entries that are computed from the configuration here; checkpoint.buffers writes them."""


ROW_BIASES = ("attention.dense.bias", "mlp.dense_4h_to_h.bias")
"""Biases of row-divided layers."""


def divided_dim(name: str) -> int | None:
    """The dimension along which a parameter is divided over tensor ranks; None where every rank has it whole."""
    if name.endswith(COLUMN_DIVIDED):
        return 0
    return 1 if name.endswith(ROW_DIVIDED) else None


def our_name(name: str) -> str | None:
    """This project's name of a parameter in a GPT-NeoX checkpoint of any age; None for what is not a parameter.

    >>> our_name("mlp.linear1.weight"), our_name("attention.rotary_emb.inv_freq")
    ('mlp.dense_h_to_4h.weight', None)
    """
    if name.endswith(DERIVED):
        return None
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name


def merge(
    name: str, parts: Sequence[torch.Tensor], stacked: Sequence[int] = (), has_summed_row_biases: bool = False
) -> torch.Tensor:
    """Return the whole parameter from the parts of all tensor ranks, in rank order.

    `stacked` has the rows of each matrix in a whole parameter that is several of them, of which a rank holds its share one by one.
    With `has_summed_row_biases` a row bias is the sum over the ranks; otherwise every rank has a copy of it.
    """
    dim = divided_dim(name)
    if len(parts) == 1:
        return parts[0]
    if has_summed_row_biases and name.endswith(ROW_BIASES):
        return torch.stack(list(parts)).double().sum(0).to(parts[0].dtype)
    if dim is None:
        return parts[0]
    if not stacked or parts[0].shape[0] * len(parts) != sum(stacked):
        return torch.cat(list(parts), dim)
    shares = [part.split([rows // len(parts) for rows in stacked]) for part in parts]
    return torch.cat([share for matrix in zip(*shares, strict=True) for share in matrix])


def part_of(name: str, whole: torch.Tensor, tensor_rank: int, tensor_size: int, stacked: Sequence[int] = ()) -> torch.Tensor:
    """Return one tensor rank's part of a whole parameter: the inverse of `merge` but for row biases, which stay whole.

    >>> part_of("mlp.dense_h_to_4h.weight", torch.arange(6)[:, None], 1, 2, stacked=(4, 2)).flatten().tolist()
    [2, 3, 5]
    """
    dim = divided_dim(name)
    if dim is None or tensor_size == 1:
        return whole
    matrices = whole.split(list(stacked)) if stacked else (whole,)
    return torch.cat([matrix.chunk(tensor_size, dim)[tensor_rank] for matrix in matrices], dim)


def fit_vocabulary(name: str, weight: torch.Tensor, rows: int, vocab_size: int) -> torch.Tensor:
    """The weight with `rows` rows: padding rows are cut, or added as zeros. Raises CheckpointError rather than cut real ones."""
    if weight.shape[0] < vocab_size:
        raise CheckpointError(
            f"{name} has {weight.shape[0]:,} rows and the vocabulary {vocab_size:,} entries. "
            "Use the vocabulary that it was trained with."
        )
    if weight.shape[0] >= rows:
        return weight[:rows]
    return torch.cat([weight, weight.new_zeros(rows - weight.shape[0], weight.shape[1])])
