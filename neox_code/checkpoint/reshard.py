"""From the parts that tensor ranks hold to whole weights. Shapes as in checkpoint.layout and model.gpt."""

from collections.abc import Sequence

import torch

from neox_code.errors import CheckpointError
from neox_code.model.gpt import COLUMN_DIVIDED, ROW_DIVIDED

RENAMED = {"mlp.linear1.": "mlp.dense_h_to_4h.", "mlp.linear2.": "mlp.dense_4h_to_h."}
"""Newer GPT-NeoX name -> the name of PolyCoder's and Pythia's time, which is ours."""

DERIVED = ("attention.rotary_emb.inv_freq", "attention.alibi_embed.slopes", "position_embeddings.inv_freq")
"""GPT-NeoX's entries that are computed from the configuration here; checkpoint.buffers writes them."""


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


def merge(name: str, parts: Sequence[torch.Tensor], stacked: Sequence[int] = ()) -> torch.Tensor:
    """The whole parameter from the parts of all tensor ranks, in rank order.

    `stacked` has the rows of each matrix in a whole parameter that is several of them, of which a rank holds its share one by one.
    """
    dim = divided_dim(name)
    if dim is None or len(parts) == 1:
        return parts[0]
    if not stacked or parts[0].shape[0] * len(parts) != sum(stacked):
        return torch.cat(list(parts), dim)
    shares = [part.split([rows // len(parts) for rows in stacked]) for part in parts]
    return torch.cat([share for matrix in zip(*shares, strict=True) for share in matrix])


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
