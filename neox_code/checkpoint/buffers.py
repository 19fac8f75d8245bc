"""Entries of GPT-NeoX's checkpoints that are no parameters here, or that have other values there.

    with written_for_gpt_neox(module):            # state dicts hold what GPT-NeoX reads
        engine.save_checkpoint(...)

    pos_emb       entry of a state dict                     shape on a tensor rank
    rotary        attention.rotary_emb.inv_freq             [turned dimensions / 2]      with rotary_save_freqs_buffer alone
    alibi         attention.alibi_embed.slopes              [heads of the rank]
    sinusoidal    position_embeddings.inv_freq              [hidden_size / 2]

All are fp32, as GPT-NeoX makes them. reshard.our_name leaves them out when a checkpoint is read.

With `gpt_j_residual` GPT-NeoX adds up the row biases of the tensor ranks, where this package adds a bias once: tensor rank 0 writes
it and the others write zeros. `sum_row_biases` restores it on every rank.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from neox_code.checkpoint.merge_ranks import ROW_BIASES
from neox_code.model.alibi import head_slopes
from neox_code.model.attention import Attention
from neox_code.model.block import TransformerBlock
from neox_code.model.embedding import Embedding
from neox_code.model.positions import falling_frequencies
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid


def entries_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return GPT-NeoX's entries for this module, by their names in it; none for most."""
    if isinstance(module, TransformerBlock) and module.parallel_residual and module.tensor_rank > 0:
        return {name: torch.zeros_like(bias) for name, bias in row_biases(module)}
    if isinstance(module, Embedding) and module.model.pos_emb == "sinusoidal":
        return {"position_embeddings.inv_freq": falling_frequencies(module.model.hidden_size)}
    if isinstance(module, Attention) and module.model.pos_emb == "alibi":
        return {"alibi_embed.slopes": torch.tensor(head_slopes(module.model.num_attention_heads)[module.heads])}
    if isinstance(module, Attention) and module.rotary is not None and module.model.rotary_save_freqs_buffer:
        return {"rotary_emb.inv_freq": module.rotary.frequencies()}
    return {}


def row_biases(block: TransformerBlock) -> list[tuple[str, nn.Parameter]]:
    """Return the names and biases of a block's row-divided layers."""
    return [(name, parameter) for name, parameter in block.named_parameters() if name.endswith(ROW_BIASES)]


def sum_row_biases(module: nn.Module, grid: ParallelGrid) -> None:
    """Replace the row biases as read from each tensor rank's file by their sum, if they are summands. Called on every rank."""
    for block in module.modules():
        if isinstance(block, TransformerBlock) and block.parallel_residual:
            for _, bias in row_biases(block):
                wide = bias.detach().double()
                bias.data.copy_(all_reduce(wide, grid.tensor_group))


@contextmanager
def written_for_gpt_neox(module: nn.Module) -> Iterator[None]:
    """While this is entered, the module's state dicts hold the entries that GPT-NeoX reads."""

    def add(place: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
        state_dict.update({f"{prefix}{name}": value for name, value in entries_of(place).items()})

    with ExitStack() as hooks:
        for place in module.modules():
            if entries_of(place):
                hooks.callback(place.register_state_dict_post_hook(add).remove)
        yield
