"""The feed-forward layer: H -> I -> H; with a gated activation H -> 2 I -> I -> H.

As in GPT-NeoX, each tensor rank stores the rows of the up projection first and the rows of the gate after them. The parameters have
the names of GPT-NeoX's older files (dense_h_to_4h), when I was always 4 H.
"""

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.activations import build_activation, tanh_gelu
from neox_code.model.initialization import initialize_in_parts, make_input_init, make_output_init
from neox_code.model.sharding import count_gate_rows
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.packed import PackedLinear, QuantizedLinear


class MLP(nn.Module):
    def __init__(self, model: ModelConfig, grid: ParallelGrid, dtype: torch.dtype, initialize: bool = True):
        super().__init__()
        hidden, inner, bias = model.hidden_size, model.feed_forward_size, model.use_bias_in_mlp
        fill = initialize_in_parts(make_input_init(model), count_gate_rows(model))
        rows = sum(count_gate_rows(model)) or inner
        self.dense_h_to_4h = grid.layers.column_linear(hidden, rows, dtype, fill if initialize else None, bias)
        self.activation = build_activation(model)
        self.dense_4h_to_h = grid.layers.row_linear(inner, hidden, dtype, make_output_init(model) if initialize else None, bias)

    def forward(self, hidden_SBH: torch.Tensor) -> torch.Tensor:
        return self.dense_4h_to_h(self.activation(self.dense_h_to_4h(hidden_SBH)))


def fuse_activations(gpt: nn.Module) -> None:
    """Make packed linear layers compute the gelu that follows them. This takes less time and rounds once instead of twice."""
    for mlp in gpt.modules():
        if (
            isinstance(mlp, MLP)
            and isinstance(mlp.dense_h_to_4h, PackedLinear | QuantizedLinear)
            and mlp.activation in (F.gelu, tanh_gelu)
        ):
            mlp.dense_h_to_4h.activation = ("gelu", "tanh" if mlp.activation is tanh_gelu else "none")
            mlp.activation = nn.Identity()
