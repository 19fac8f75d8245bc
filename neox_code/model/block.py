"""One transformer block, with either residual form.

sequential   x = x + attention(norm1(x));  x = x + mlp(norm2(x))
parallel     x = x + attention(norm1(x)) + mlp(norm2(x))              gpt_j_residual: true

With `sequence_parallel` the hidden state is [S / ranks, B, H] and not [B, S, H]. Shape letters: B batch, S sequence, H hidden.
"""

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.attention import NO_ROW_INPUTS, Attention, RowInputs
from neox_code.model.form import INFERENCE, HiddenState, ModelForm, compile_function, split_hidden_state
from neox_code.model.kv_cache import CacheView
from neox_code.model.mlp import MLP
from neox_code.model.norms import build_norm
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
        self.input_layernorm = build_norm(model, dtype, grid.sequence_group)
        self.attention = Attention(model, layer_index, grid, dtype, initialize, form.recomputes_attention)
        self.post_attention_layernorm = build_norm(model, dtype, grid.sequence_group)
        self.mlp = MLP(model, grid, dtype, initialize)
        self.compile_backend = form.compile_backend
        self.is_divided = grid.tensor_size > 1

    def forward(self, state: HiddenState, cache: CacheView | None = None) -> HiddenState:
        """Return the next hidden state, with the starts of the documents if the layer before passes them."""
        hidden_BSH, starts_BS = split_hidden_state(state)
        if cache is not None:
            return self.compute(hidden_BSH, cache)
        row_inputs = self.attention.prepare(hidden_BSH, starts_BS)
        compute = TransformerBlock.compute
        if self.compile_backend is not None:
            compute = compile_function(compute, self.compile_backend, not self.is_divided)  # collectives may break the graph
        hidden_BSH = compute(self, hidden_BSH, None, row_inputs)
        return hidden_BSH if starts_BS is None else (hidden_BSH, starts_BS)

    def compute(
        self, hidden_BSH: torch.Tensor, cache: CacheView | None = None, row_inputs: RowInputs = NO_ROW_INPUTS
    ) -> torch.Tensor:
        attended_BSH = self.maybe_dropout(self.attention(self.input_layernorm(hidden_BSH), cache, row_inputs))
        if self.model.gpt_j_residual:
            return hidden_BSH + attended_BSH + self.maybe_dropout(self.mlp(self.post_attention_layernorm(hidden_BSH)))
        hidden_BSH = hidden_BSH + attended_BSH
        return hidden_BSH + self.maybe_dropout(self.mlp(self.post_attention_layernorm(hidden_BSH)))

    def maybe_dropout(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor after dropout. With `sequence_parallel` the mask is this rank's part of the mask without it."""
        if not self.dropout or self.sequence_group is None:
            return F.dropout(tensor, self.dropout, self.training) if self.dropout else tensor
        part, batch, width = tensor.shape
        mask_BSH = F.dropout(tensor.new_ones(batch, part * self.sequence_group.size(), width), self.dropout, self.training)
        return tensor * mask_BSH.transpose(0, 1).chunk(self.sequence_group.size())[self.sequence_group.rank()]
