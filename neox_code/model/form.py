"""The form of a model in training or inference: its last layer, separated documents, recomputed and compiled blocks.

    layers = build_layers(config.model, ..., form=make_training_form(config.model, config.parallelism, tokenizer.eod_id))

The hidden state is passed from layer to layer, through a pipeline too. Some keys of the model pass other tensors with it, in the
order of `LayerState`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch

from neox_code.config.model import ModelConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.parallel.grid import ParallelGrid

HiddenState = torch.Tensor | tuple[torch.Tensor, ...]
"""hidden_BSH, or the tensors of a LayerState without those that are None: a pipeline passes tensors alone."""


class LayerState(NamedTuple):
    """Tensors that a layer passes to the next one. Only the last block passes neither `embedded_BSH` nor `values_BSGD`."""

    hidden_BSH: torch.Tensor
    starts_BS: torch.Tensor | None = None
    """With separated documents: the index at which the document of each position begins. Positions, masks and biases follow."""
    embedded_BSH: torch.Tensor | None = None
    """With `embedding_skip`: the input of the first block."""
    values_BSGD: torch.Tensor | None = None
    """With `value_residual`, after the first block: its values, of this tensor rank's G groups of heads."""
    keys_B: torch.Tensor | None = None
    """The key of each row's dropout masks, if its batch has keys."""

    def pack(self) -> HiddenState:
        """Return the tensor, or the tuple of tensors, that is passed."""
        present = tuple(tensor for tensor in self if tensor is not None)
        return present[0] if len(present) == 1 else present


FIELDS_BY_DIMENSIONS = {1: "keys_B", 2: "starts_BS", 3: "embedded_BSH", 4: "values_BSGD"}
"""Number of a tensor's dimensions -> field of LayerState, for all but the first field."""


def unpack_state(state: HiddenState) -> LayerState:
    """Return the tensors that a layer received; the inverse of `LayerState.pack`."""
    hidden_BSH, *others = state if isinstance(state, tuple) else (state,)
    return LayerState(hidden_BSH, **{FIELDS_BY_DIMENSIONS[tensor.ndim]: tensor for tensor in others})


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


@dataclass(frozen=True)
class StageJoint:
    """Joins the tensors with gradients that a pipeline's stage sends to the next, side by side: [B, S, H + ...].

    The values of heads are those of the whole sequence. With `sequence_parallel` a row of the joined tensor [S / ranks, B, H + ...]
    therefore has values of several positions. The width of the joined tensor determines which tensors it contains.
    """

    hidden_size: int
    embedded_size: int
    num_groups: int
    head_dim: int
    batch_dim: int
    """Dimension of the hidden state that is the batch."""

    @classmethod
    def from_model(cls, model: ModelConfig, grid: ParallelGrid) -> "StageJoint":
        embedded_size = model.hidden_size if model.embedding_skip else 0
        batch_dim = 0 if grid.sequence_group is None else 1
        return cls(model.hidden_size, embedded_size, model.kv_heads // grid.tensor_size, model.head_dim, batch_dim)

    def join(self, state: HiddenState) -> HiddenState:
        """Return the state with its tensors that have gradients side by side, the starts of documents and the keys."""
        hidden, starts_BS, *others, keys_B = unpack_state(state)
        parts = [hidden, *(other.reshape(*hidden.shape[:2], -1) for other in others if other is not None)]
        return LayerState(hidden if len(parts) == 1 else torch.cat(parts, -1), starts_BS, keys_B=keys_B).pack()

    def split(self, state: HiddenState) -> HiddenState:
        """Return the state that `join` received."""
        joined, starts_BS, *_, keys_B = unpack_state(state)
        width = joined.shape[-1] - self.hidden_size
        if not width:
            return state
        sizes = [self.hidden_size, self.embedded_size, width - self.embedded_size]
        hidden, embedded, values = (part.contiguous() for part in joined.split(sizes, -1))
        values_BSGD = values.view(joined.shape[self.batch_dim], -1, self.num_groups, self.head_dim) if sizes[2] else None
        return LayerState(hidden, starts_BS, embedded if sizes[1] else None, values_BSGD, keys_B).pack()


@cache
def compile_function(function: Callable[..., Any], backend: str, is_whole: bool) -> Callable[..., Any]:
    """Return the compiled function, the same for all layers. If `is_whole`, raise an error where the graph would break."""
    return torch.compile(function, backend=backend, fullgraph=is_whole)
