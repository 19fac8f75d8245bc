"""One transformer block, with either residual form.

sequential   x = x + attention(norm1(x));  x = x + mlp(norm2(x))
parallel     x = x + attention(norm1(x)) + mlp(norm2(x))              gpt_j_residual: true

With `embedding_skip` the input x is first replaced by a[0] x + a[1] x0, with two learned numbers a and the first block's input x0.

With `sequence_parallel` the hidden state is [S / ranks, B, H] and not [B, S, H]. Shape letters: B batch, S sequence, H hidden.
"""

import torch
from torch import nn

from neox_code.config.model import ModelConfig
from neox_code.model.attention import NO_ROW_INPUTS, Attention, RowInputs
from neox_code.model.dropout import AFTER_ATTENTION, AFTER_FEED_FORWARD, drop_hidden
from neox_code.model.form import INFERENCE, HiddenState, LayerState, ModelForm, compile_function, unpack_state
from neox_code.model.kv_cache import CacheView
from neox_code.model.mlp import MLP
from neox_code.model.norms import build_norm
from neox_code.parallel.collectives import sum_gradients
from neox_code.parallel.grid import ParallelGrid


class TransformerBlock(nn.Module):
    def __init__(
        self,
        model: ModelConfig,
        layer_index: int,
        grid: ParallelGrid,
        dtype: torch.dtype,
        initialize: bool = True,
        form: ModelForm = INFERENCE,
    ):
        super().__init__()
        self.model = model
        self.dropout = model.hidden_dropout
        self.sequence_group = grid.sequence_group
        self.is_last = layer_index == model.num_layers - 1
        self.embedding_skip = nn.Parameter(torch.tensor([1.0, 0.0], dtype=dtype)) if model.embedding_skip else None
        self.input_layernorm = build_norm(model, dtype, grid.sequence_group)
        self.attention = Attention(model, layer_index, grid, dtype, initialize, form.recomputes_attention)
        self.post_attention_layernorm = build_norm(model, dtype, grid.sequence_group)
        self.mlp = MLP(model, grid, dtype, initialize)
        self.compile_backend = form.compile_backend
        self.is_divided = grid.tensor_size > 1

    def forward(self, state: HiddenState, cache: CacheView | None = None) -> HiddenState:
        """Return the next hidden state, with what the next layer needs besides it."""
        inputs = unpack_state(state)
        hidden_BSH, starts_BS, embedded_BSH, values_BSGD, keys_B = inputs
        row_inputs = NO_ROW_INPUTS if cache is not None else self.attention.prepare(hidden_BSH, starts_BS, keys_B)
        compute = TransformerBlock.compute
        if self.compile_backend is not None and cache is None:
            compute = compile_function(compute, self.compile_backend, not self.is_divided)  # collectives may break the graph
        hidden_BSH, values_BSGD = compute(self, hidden_BSH, embedded_BSH, values_BSGD, cache, row_inputs)
        if self.is_last:
            embedded_BSH = values_BSGD = None
        return LayerState(hidden_BSH, starts_BS, embedded_BSH, values_BSGD, keys_B).pack()

    def compute(
        self,
        hidden_BSH: torch.Tensor,
        embedded_BSH: torch.Tensor | None,
        values_BSGD: torch.Tensor | None,
        cache: CacheView | None,
        row_inputs: RowInputs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the next hidden state, and with `value_residual` the first block's values."""
        if self.embedding_skip is not None and embedded_BSH is not None:
            factors = sum_gradients(self.embedding_skip, self.sequence_group)
            hidden_BSH = factors[0] * hidden_BSH + factors[1] * embedded_BSH
        attended_BSH, values_BSGD = self.attention(self.input_layernorm(hidden_BSH), values_BSGD, cache, row_inputs)
        attended_BSH = self.maybe_drop(attended_BSH, row_inputs.keys_B, AFTER_ATTENTION)
        input_BSH, hidden_BSH = hidden_BSH, hidden_BSH + attended_BSH
        mlp_BSH = self.mlp(self.post_attention_layernorm(input_BSH if self.model.gpt_j_residual else hidden_BSH))
        return hidden_BSH + self.maybe_drop(mlp_BSH, row_inputs.keys_B, AFTER_FEED_FORWARD), values_BSGD

    def maybe_drop(self, hidden_BSH: torch.Tensor, keys_B: torch.Tensor | None, place: int) -> torch.Tensor:
        """Return the hidden state after dropout in training."""
        if not self.dropout or not self.training:
            return hidden_BSH
        assert keys_B is not None
        return drop_hidden(hidden_BSH, keys_B, place, self.dropout, self.sequence_group)
