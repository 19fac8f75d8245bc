"""The feed-forward layer: H -> 4H -> H."""

import torch
from torch import nn

from neox_code.config.model import ModelConfig
from neox_code.model.activations import build_activation
from neox_code.model.initialization import input_init, output_init
from neox_code.parallel.grid import ParallelGrid


class MLP(nn.Module):
    def __init__(self, model: ModelConfig, grid: ParallelGrid, dtype: torch.dtype, initialize: bool = True):
        super().__init__()
        hidden, inner = model.hidden_size, model.feed_forward_size
        self.dense_h_to_4h = grid.layers.column_linear(hidden, inner, dtype, input_init(model) if initialize else None)
        self.activation = build_activation(model)
        self.dense_4h_to_h = grid.layers.row_linear(inner, hidden, dtype, output_init(model) if initialize else None)

    def forward(self, hidden_SBH: torch.Tensor) -> torch.Tensor:
        return self.dense_4h_to_h(self.activation(self.dense_h_to_4h(hidden_SBH)))
