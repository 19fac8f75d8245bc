"""The form of a model in training or inference: its last layer, separated documents, recomputed and compiled blocks.

    layers = build_layers(config.model, ..., form=make_training_form(config.model, config.parallelism, tokenizer.eod_id))

With separated documents a pair is passed from layer to layer, through a pipeline too: the hidden state, and the index at which the
document of each position begins. Positions, masks and biases follow from these indices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from neox_code.config.model import ModelConfig
from neox_code.config.parallelism import ParallelismConfig

HiddenState = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
"""hidden_BSH, or with separated documents (hidden_BSH, starts_BS)."""


@dataclass(frozen=True)
class ModelForm:
    has_loss: bool = False
    """True: the last layer returns the arguments of `WeightedLoss` in place of logits."""
    eod_id: int | None = None
    """The token with which each document begins, if documents are separated."""
    recomputes_attention: bool = False
    """True: attention is computed again in the backward pass, which needs only the projected queries, keys and values."""
    compile_backend: str | None = None
    """The backend of torch.compile for the blocks; None: blocks are not compiled."""


INFERENCE = ModelForm()


def make_training_form(model: ModelConfig, parallelism: ParallelismConfig, eod_id: int) -> ModelForm:
    """Return the form in which the configured model is trained."""
    return ModelForm(
        has_loss=True,
        eod_id=eod_id if model.reset_position_ids or model.reset_attention_mask else None,
        recomputes_attention=parallelism.checkpoint_activations and parallelism.checkpoint_granularity == "attention",
        compile_backend="inductor" if model.torch_compile else None,
    )


def split_hidden_state(state: HiddenState) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return hidden_BSH, and starts_BS or None."""
    return state if isinstance(state, tuple) else (state, None)


@cache
def compile_function(function: Callable[..., torch.Tensor], backend: str, is_whole: bool) -> Callable[..., torch.Tensor]:
    """Return the compiled function, the same for all layers. If `is_whole`, raise an error where the graph would break."""
    return torch.compile(function, backend=backend, fullgraph=is_whole)
