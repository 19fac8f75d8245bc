"""The model as one list of layers, for a pipeline or a plain module. A layer's index in the list is also its number in the
checkpoint's file names.

    index        layer                      file
    0            Embedding                  layer_00
    1            enter_blocks               none
    2 .. L+1     TransformerBlock           layer_02 .. layer_{L+1}
    L+2          none, only its number      none
    L+3          FinalNorm                  layer_{L+3}
    L+4          Head                       layer_{L+4}; none when tied, since the head is then the embedding

The hidden state is passed from layer to layer; positions and masks follow from its shape. Some keys pass other tensors with it (see
`LayerState` in form.py). With `sequence_parallel` it is [S / ranks, B, H] between layers 1 and the head. GPT-NeoX
swaps its first two dimensions in layers 1 and L+2.
Shape letters: B batch, S sequence, H hidden, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neox_code.config.model import ModelConfig
from neox_code.model.block import TransformerBlock
from neox_code.model.embedding import Embedding, FinalNorm, Head, TiedHead, enter_blocks
from neox_code.model.form import INFERENCE, HiddenState, ModelForm
from neox_code.model.kv_cache import CacheView
from neox_code.model.native_decoder import NativeDecoder
from neox_code.parallel.grid import CPU, ParallelGrid
from neox_code.parallel.seeds import seed_layer

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bfloat16": torch.bfloat16}
"""Value of the key `precision` -> torch dtype."""

TIED_EMBEDDING = "embed"
"""Name under which the first and the last layer share the embedding."""


@dataclass(frozen=True)
class Layer:
    """One entry of the list: a module class with its arguments, or a function without state.

    `tied` is the name of a module that several entries share. An entry with `forward` calls `forward(module, tensor)` instead of
    `module(tensor)`.
    """

    index: int
    module: type[nn.Module] | None = None
    arguments: tuple = ()
    seed: int = 0
    device: torch.device = CPU
    function: Callable[[HiddenState], HiddenState] | None = None
    tied: str | None = None
    forward: Callable[[nn.Module, torch.Tensor], Any] | None = None

    def build(self) -> nn.Module:
        """Return the module, on the layer's device; its initial values depend only on seed and index."""
        assert self.module is not None
        with seed_layer(self.seed, self.index), self.device:
            return self.module(*self.arguments)


def pass_on(state: HiddenState) -> HiddenState:
    """Return the argument."""
    return state


def build_layers(
    model: ModelConfig,
    vocab_size: int,
    padded_vocab_size: int,
    grid: ParallelGrid,
    dtype: torch.dtype,
    seed: int = 1234,
    initialize: bool = True,
    form: ModelForm = INFERENCE,
) -> list[Layer]:
    """Return the layers of the whole model in order, without allocating their weights.

    With `initialize=False` the weights are not initialized when a layer is built, because they are loaded later. Then they are
    allocated on the CPU, otherwise on the device of `grid`.
    """
    vocabulary = (model, vocab_size, padded_vocab_size, grid, dtype, initialize, form)
    last = model.num_layers + 4
    tied = None if model.no_weight_tying else TIED_EMBEDDING
    block, origin = (grid, dtype, initialize, form), (seed, grid.device if initialize else CPU)
    blocks = [Layer(2 + number, TransformerBlock, (model, number, *block), *origin) for number in range(model.num_layers)]
    head = (
        Layer(last, Head, vocabulary, *origin)
        if model.no_weight_tying
        else Layer(0, Embedding, vocabulary, *origin, tied=tied, forward=TiedHead(grid, form.has_loss))
    )
    return [
        Layer(0, Embedding, vocabulary, *origin, tied=tied),
        Layer(1, function=partial(enter_blocks, grid=grid, keeps_embedded=model.embedding_skip)),
        *blocks,
        Layer(last - 2, function=pass_on),
        Layer(last - 1, FinalNorm, (model, grid, dtype), *origin),
        head,
    ]


class GPT(nn.Module):
    """The layers as a plain module: tokens_BS -> logits_BSV, with or without caches.

    Parameters are named `sequential.INDEX.NAME`, as in GPT-NeoX's checkpoints without a pipeline. With `recompute` the activations
    of a block are computed again in the backward pass instead of being kept.
    """

    def __init__(self, layers: Sequence[Layer], recompute: bool = False):
        super().__init__()
        self.recompute = recompute
        self.decoder: NativeDecoder | None = None
        """Reads the tokens of a `view`, if it is set."""
        self.sequential = nn.ModuleDict()
        self.steps: list[tuple[str | None, Callable]] = []
        for layer in layers:
            if layer.function is not None:
                self.steps.append((None, layer.function))
                continue
            name = str(layer.index)
            if name not in self.sequential:
                self.sequential[name] = layer.build()
            self.steps.append((name, layer.forward or nn.Module.__call__))

    def hidden(self, tokens_BS: torch.Tensor, view: CacheView | None = None) -> torch.Tensor:
        """Return the hidden state before the head, [B, S, H]. With a `view`, B is 1, and the new tokens are added to its caches."""
        return self.compute_hidden(tokens_BS, view) if view is None or self.decoder is None else self.decoder.read(tokens_BS, view)

    def compute_hidden(self, tokens_BS: torch.Tensor, view: CacheView | None) -> torch.Tensor:
        """Return the hidden state as `hidden` does, computed by the layers themselves."""
        state: HiddenState = tokens_BS
        for name, step in self.steps[:-1]:
            state = step(state) if name is None else self.apply_layer(self.sequential[name], state, view)
        if view is not None:
            view.advance()
        assert isinstance(state, torch.Tensor)
        return state

    def apply_layer(self, module: nn.Module, state: HiddenState, view: CacheView | None) -> HiddenState:
        if self.recompute and torch.is_grad_enabled() and isinstance(module, TransformerBlock):
            return checkpoint(module, state, use_reentrant=False)
        return module(state, view) if isinstance(module, Embedding | TransformerBlock) else module(state)

    def logits(self, hidden_BSH: torch.Tensor) -> torch.Tensor:
        """Return the logits [B, S, V] of a hidden state. Pass only the positions whose next token is needed."""
        name, step = self.steps[-1]
        assert name is not None
        return step(self.sequential[name], hidden_BSH)

    def exact_logits(self, hidden_1SH: torch.Tensor) -> torch.Tensor:
        """Return the logits [1, S, V] of the last tokens of rows. On a CPU a token has the same bits beside any others."""
        return self.logits(hidden_1SH) if self.decoder is None else self.decoder.logits(hidden_1SH)

    def forward(self, tokens_BS: torch.Tensor, view: CacheView | None = None) -> torch.Tensor:
        return self.logits(self.hidden(tokens_BS, view))
