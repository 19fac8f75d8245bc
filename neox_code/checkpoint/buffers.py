"""What GPT-NeoX keeps in a checkpoint beside the parameters, and is computed from the configuration here.

    with written_with_buffers(module):            # state dicts hold GPT-NeoX's buffers, which it misses otherwise
        engine.save_checkpoint(...)

    pos_emb       entry of a state dict                     shape on a tensor rank
    rotary        attention.rotary_emb.inv_freq             [turned dimensions / 2]      with rotary_save_freqs_buffer alone
    alibi         attention.alibi_embed.slopes              [heads of the rank]
    sinusoidal    position_embeddings.inv_freq              [hidden_size / 2]

All are fp32, as GPT-NeoX makes them. reshard.our_name leaves them out when a checkpoint is read.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from neox_code.model.alibi import head_slopes
from neox_code.model.attention import Attention
from neox_code.model.embedding import Embedding
from neox_code.model.positions import falling_frequencies


def buffers_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """GPT-NeoX's buffers in the place of this module, by their names in it; none in most."""
    if isinstance(module, Embedding) and module.model.pos_emb == "sinusoidal":
        return {"position_embeddings.inv_freq": falling_frequencies(module.model.hidden_size)}
    if isinstance(module, Attention) and module.model.pos_emb == "alibi":
        return {"alibi_embed.slopes": torch.tensor(head_slopes(module.model.num_attention_heads)[module.heads])}
    if isinstance(module, Attention) and module.rotary is not None and module.model.rotary_save_freqs_buffer:
        return {"rotary_emb.inv_freq": module.rotary.frequencies()}
    return {}


@contextmanager
def written_with_buffers(module: nn.Module) -> Iterator[None]:
    """While this is entered, the module's state dicts hold GPT-NeoX's buffers."""

    def add(place: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
        state_dict.update({f"{prefix}{name}": value for name, value in buffers_of(place).items()})

    with ExitStack() as hooks:
        for place in module.modules():
            if buffers_of(place):
                hooks.callback(place.register_state_dict_post_hook(add).remove)
        yield
