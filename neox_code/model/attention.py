"""Multi-head self-attention with a fused projection for queries, keys and values.

Shape letters: S sequence, B batch, H hidden, N heads of this tensor rank, D head dimensions, T keys.
The fused projection's rows are interleaved by head, as in GPT-NeoX: [head 0: q k v | head 1: q k v | ...], D rows each.
"""

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.blocked_attention import blocked_attention, is_better_in_blocks
from neox_code.model.initialization import input_init, output_init
from neox_code.model.kv_cache import CacheView
from neox_code.model.positions import RotaryTable, rotate
from neox_code.parallel.emulated import is_emulated
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.seeds import TensorRankGenerator


class Attention(nn.Module):
    def __init__(self, model: ModelConfig, layer_index: int, grid: ParallelGrid, dtype: torch.dtype, initialize: bool = True):
        super().__init__()
        self.layer_index = layer_index
        self.num_heads = model.num_attention_heads // grid.tensor_size
        self.head_dim = model.head_dim
        self.dropout = model.attention_dropout
        self.generator = TensorRankGenerator(grid)
        self.rotary = (
            RotaryTable(model.head_dim, model.rotary_pct, model.rotary_emb_base, model.max_position_embeddings)
            if model.pos_emb == "rotary"
            else None
        )
        hidden = model.hidden_size
        self.query_key_value = grid.layers.column_linear(hidden, 3 * hidden, dtype, input_init(model) if initialize else None)
        self.dense = grid.layers.row_linear(hidden, hidden, dtype, output_init(model) if initialize else None)

    def forward(self, hidden_SBH: torch.Tensor, cache: CacheView | None = None) -> torch.Tensor:
        sequence, batch = hidden_SBH.shape[:2]
        fused = self.query_key_value(hidden_SBH).view(sequence, batch, self.num_heads, 3 * self.head_dim)
        query_SBND, key_SBND, value_SBND = fused.split(self.head_dim, dim=-1)
        if self.rotary is not None:
            cos, sin = (
                self.rotary.first(sequence, fused.device, fused.dtype)
                if cache is None
                else self.rotary.at(cache.positions, fused.dtype)
            )
            query_SBND, key_SBND = rotate(query_SBND, cos, sin), rotate(key_SBND, cos, sin)
        context_BNSD = self.attend(*(tensor.permute(1, 2, 0, 3) for tensor in (query_SBND, key_SBND, value_SBND)), cache)
        return self.dense(context_BNSD.permute(2, 0, 1, 3).reshape(sequence, batch, self.num_heads * self.head_dim))

    def attend(
        self, query_BNSD: torch.Tensor, key_BNSD: torch.Tensor, value_BNSD: torch.Tensor, cache: CacheView | None
    ) -> torch.Tensor:
        """softmax(q k^T / sqrt(D)) v, causal: [B, N, S, D]."""
        if cache is None and is_emulated(query_BNSD):
            wide = (tensor.float() for tensor in (query_BNSD, key_BNSD, value_BNSD))
            return self.attend(*wide, cache).to(query_BNSD.dtype)
        if cache is not None:
            keys_BNTD, values_BNTD = cache.append(self.layer_index, key_BNSD, value_BNSD)
            return F.scaled_dot_product_attention(
                query_BNSD, keys_BNTD, values_BNTD, attn_mask=cache.mask, is_causal=cache.is_causal
            )
        if not (self.training and self.dropout):
            if is_better_in_blocks(query_BNSD):
                return blocked_attention(query_BNSD, key_BNSD, value_BNSD)
            return F.scaled_dot_product_attention(query_BNSD, key_BNSD, value_BNSD, is_causal=True)
        with self.generator.fork():
            return F.scaled_dot_product_attention(query_BNSD, key_BNSD, value_BNSD, dropout_p=self.dropout, is_causal=True)
