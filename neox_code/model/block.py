"""One transformer block, with either residual form.

sequential   x = x + attention(norm1(x));  x = x + mlp(norm2(x))
parallel     x = x + attention(norm1(x)) + mlp(norm2(x))              gpt_j_residual: true
"""

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.attention import Attention
from neox_code.model.kv_cache import CacheView
from neox_code.model.mlp import MLP
from neox_code.model.norms import build_norm
from neox_code.parallel.grid import ParallelGrid


class TransformerBlock(nn.Module):
    def __init__(self, model: ModelConfig, layer_index: int, grid: ParallelGrid, dtype: torch.dtype, initialize: bool = True):
        super().__init__()
        self.model = model
        self.dropout = model.hidden_dropout
        self.input_layernorm = build_norm(model, dtype)
        self.attention = Attention(model, layer_index, grid, dtype, initialize)
        self.post_attention_layernorm = build_norm(model, dtype)
        self.mlp = MLP(model, grid, dtype, initialize)

    def forward(self, hidden_SBH: torch.Tensor, cache: CacheView | None = None) -> torch.Tensor:
        attended_SBH = self.maybe_dropout(self.attention(self.input_layernorm(hidden_SBH), cache))
        if self.model.gpt_j_residual:
            return hidden_SBH + attended_SBH + self.maybe_dropout(self.mlp(self.post_attention_layernorm(hidden_SBH)))
        hidden_SBH = hidden_SBH + attended_SBH
        return hidden_SBH + self.maybe_dropout(self.mlp(self.post_attention_layernorm(hidden_SBH)))

    def maybe_dropout(self, tensor: torch.Tensor) -> torch.Tensor:
        return F.dropout(tensor, self.dropout, self.training) if self.dropout else tensor
