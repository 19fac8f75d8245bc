"""Checkpoint entries that GPT-NeoX stores in another way than this package: buffers, row biases, gated feed-forward layers.

    with add_gpt_neox_entries(module, grid):        # state dicts hold the entries that GPT-NeoX reads
        engine.save_checkpoint(...)

    pos_emb       entry of a state dict                     shape on a tensor rank
    rotary        attention.rotary_emb.inv_freq             [rotated dimensions / 2]     only with rotary_save_freqs_buffer
    alibi         attention.alibi_embed.slopes              [heads of the rank]
    sinusoidal    position_embeddings.inv_freq              [hidden_size / 2]

These buffers are fp32, as in GPT-NeoX. merge_ranks.find_our_name removes the buffers when a checkpoint is read.

With `gpt_j_residual` tensor rank 0 writes the row biases (the biases of row-parallel layers) and the others write zeros (see
`merge_ranks`); `sum_row_biases` restores them on every rank. With a gated activation the
names of the feed-forward layer are GPT-NeoX's newer ones (`get_name_in_file`).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from neox_code.checkpoint.merge_ranks import get_name_in_file, is_zero_in_file
from neox_code.config.model import ModelConfig
from neox_code.model.alibi import compute_head_slopes
from neox_code.model.attention import Attention
from neox_code.model.block import TransformerBlock
from neox_code.model.embedding import Embedding
from neox_code.model.positions import compute_frequencies, count_rotary_dims
from neox_code.model.sharding import get_sharding
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid


def make_expected_entry(name: str, model: ModelConfig, tensor_rank: int = 0, tensor_size: int = 1) -> torch.Tensor | None:
    """Return the buffer that GPT-NeoX stores under a name, with or without prefix, in a rank's file; None for other names."""
    kind = name.rpartition(".")[0].rpartition(".")[2]
    if (kind, model.pos_emb) == ("alibi_embed", "alibi"):
        heads = model.num_attention_heads // tensor_size
        return torch.tensor(compute_head_slopes(model.num_attention_heads)[heads * tensor_rank :][:heads])
    if (kind, model.pos_emb) == ("rotary_emb", "rotary"):
        return compute_frequencies(count_rotary_dims(model.head_dim, model.rotary_pct), model.rotary_emb_base)
    return compute_frequencies(model.hidden_size) if (kind, model.pos_emb) == ("position_embeddings", "sinusoidal") else None


def make_attention_buffers(model: ModelConfig, tensor_rank: int, tensor_size: int) -> dict[str, torch.Tensor]:
    """Return the buffers that GPT-NeoX stores for an attention layer on a tensor rank, by their names within the layer."""
    names = ["alibi_embed.slopes", *(["rotary_emb.inv_freq"] if model.rotary_save_freqs_buffer else [])]
    found = {name: make_expected_entry(name, model, tensor_rank, tensor_size) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def make_embedding_buffers(model: ModelConfig) -> dict[str, torch.Tensor]:
    """Return the buffers that GPT-NeoX stores for the embedding, by their names within the embedding."""
    value = make_expected_entry(name := "position_embeddings.inv_freq", model)
    return {} if value is None else {name: value}


def make_entries(module: nn.Module, grid: ParallelGrid) -> dict[str, torch.Tensor]:
    """Return the entries that GPT-NeoX has for this module, by their names within the module; {} for most modules."""
    if isinstance(module, TransformerBlock):
        names = [(name, bias) for name, bias in module.named_parameters() if is_zero_in_file(name, grid.tensor_rank, module.model)]
        return {name: torch.zeros_like(bias) for name, bias in names}
    if isinstance(module, Embedding):
        return make_embedding_buffers(module.model)
    return make_attention_buffers(module.model, grid.tensor_rank, grid.tensor_size) if isinstance(module, Attention) else {}


def sum_row_biases(module: nn.Module, grid: ParallelGrid) -> None:
    """Replace the bias of each row-parallel layer by the sum over the tensor ranks. Call this function on every rank."""
    for name, bias in module.named_parameters():
        if get_sharding(name).is_row_bias:
            wide = bias.detach().double()
            bias.data.copy_(all_reduce(wide, grid.tensor_group))


@contextmanager
def add_gpt_neox_entries(module: nn.Module, grid: ParallelGrid) -> Iterator[None]:
    """Within the block, add the entries that GPT-NeoX reads to the module's state dicts."""

    def add(place: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
        state_dict.update({f"{prefix}{name}": value for name, value in make_entries(place, grid).items()})

    def rename(place: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
        assert isinstance(place, TransformerBlock)
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[get_name_in_file(name, place.model)] = state_dict.pop(name)

    with ExitStack() as hooks:
        for place in module.modules():
            if make_entries(place, grid):
                hooks.callback(place.register_state_dict_post_hook(add).remove)
            if isinstance(place, TransformerBlock) and place.model.is_gated:
                hooks.callback(place.register_state_dict_post_hook(rename).remove)
        yield
