"""Dropout with masks that depend on the sample and not on the layout: seed, number of the sample, layer and place determine them.

    keys_B = derive_keys(keys_B, layer_index)                                  # once in a layer
    hidden_BSH = drop_hidden(hidden_BSH, keys_B, AFTER_ATTENTION, 0.1, group)

`data.loaders` gives each row of a batch its key, and the key passes through the layers with the hidden state. Every rank draws its
own part of the masks, and recomputed activations have the same masks again.

Shape letters: B batch, S sequence, H hidden, N heads of this tensor rank, T keys.
"""

import torch
from torch.distributed import ProcessGroup

from neox_code.parallel.counter_numbers import derive_keys, draw_mask

AFTER_EMBEDDING, AFTER_ATTENTION, AFTER_FEED_FORWARD, IN_ATTENTION = range(4)
"""Places of dropout in a layer."""

HEAD_STRIDE = 1 << 20
"""Distance of the rows of two heads in the counters of a mask of attention; sequences are shorter."""


def drop_hidden(
    hidden_BSH: torch.Tensor, keys_B: torch.Tensor, place: int, share: float, sequence_group: ProcessGroup | None = None
) -> torch.Tensor:
    """Return the hidden state after dropout; with `sequence_group` it is this rank's part of the positions, [S / ranks, B, H]."""
    length = hidden_BSH.shape[1 if sequence_group is None else 0]
    first = 0 if sequence_group is None else sequence_group.rank() * length
    positions_S = torch.arange(first, first + length, device=hidden_BSH.device)
    mask_BSH = draw_mask(derive_keys(keys_B, place), positions_S, range(hidden_BSH.shape[-1]), share)
    return drop(hidden_BSH, mask_BSH if sequence_group is None else mask_BSH.transpose(0, 1), share)


def drop_probabilities(probabilities_BNST: torch.Tensor, keys_B: torch.Tensor, first_head: int, share: float) -> torch.Tensor:
    """Return the probabilities of attention after dropout; `first_head` is the number of this tensor rank's first head."""
    _, heads, queries, keys = probabilities_BNST.shape
    heads_N1 = torch.arange(first_head, first_head + heads, device=keys_B.device)[:, None]
    rows_NS = heads_N1 * HEAD_STRIDE + torch.arange(queries, device=keys_B.device)
    mask = draw_mask(derive_keys(keys_B, IN_ATTENTION), rows_NS.flatten(), range(keys), share)
    return drop(probabilities_BNST, mask.view(probabilities_BNST.shape), share)


def drop(tensor: torch.Tensor, mask: torch.Tensor, share: float) -> torch.Tensor:
    """Return the values where the mask is True, divided by their share, and 0 elsewhere."""
    return torch.where(mask, tensor, 0) * (1 / (1 - share))
