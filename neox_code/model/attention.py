"""Multi-head self-attention with a fused projection for queries, keys and values.

The rows of the fused projection have GPT-NeoX's order. If every head has its own keys and values, the rows are interleaved by head.
If heads share them (grouped-query attention), three matrices lie one below the other on each tensor rank:

    num_kv_heads = num_attention_heads    [head 0: q k v | head 1: q k v | ...]                  D rows each
    num_kv_heads < num_attention_heads    [q of head 0, 1, ... | k of group 0, ... | v of group 0, ...]

Shape letters: S sequence, B batch, H hidden, N heads of this tensor rank, G groups of heads that share keys and values, D head
dimensions, T keys.
"""

from typing import Any

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.alibi import compute_causal_bias, compute_layer_slopes
from neox_code.model.blocked_attention import blocked_attention, is_better_in_blocks
from neox_code.model.initialization import initialize_in_parts, make_input_init, make_output_init
from neox_code.model.kv_cache import CacheView
from neox_code.model.norms import RMSNorm
from neox_code.model.positions import RotaryTable, rotate, rotate_in_place
from neox_code.model.sharding import count_query_key_value_rows
from neox_code.parallel.emulated import is_emulated
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.seeds import TensorRankGenerator


class Attention(nn.Module):
    def __init__(self, model: ModelConfig, layer_index: int, grid: ParallelGrid, dtype: torch.dtype, initialize: bool = True):
        super().__init__()
        self.model = model
        self.layer_index = layer_index
        self.num_heads = model.num_attention_heads // grid.tensor_size
        self.num_groups = model.kv_heads // grid.tensor_size
        self.is_grouped = model.kv_heads < model.num_attention_heads
        self.head_dim = model.head_dim
        self.dropout = model.attention_dropout
        self.generator = TensorRankGenerator(grid)
        self.rotary = (
            RotaryTable(model.head_dim, model.rotary_pct, model.rotary_emb_base, model.max_position_embeddings)
            if model.pos_emb == "rotary"
            else None
        )
        self.q_norm, self.k_norm = (
            RMSNorm(model.head_dim, model.rms_norm_epsilon, dtype, grid.tensor_group) if model.qk_norm else None for _ in range(2)
        )
        self.heads = slice(grid.tensor_rank * self.num_heads, (grid.tensor_rank + 1) * self.num_heads)
        self.slopes = compute_layer_slopes(model, layer_index)[self.heads] if model.pos_emb == "alibi" else None
        hidden, width, shared = model.hidden_size, model.attention_width, model.kv_heads * model.head_dim
        fill = initialize_in_parts(make_input_init(model), count_query_key_value_rows(model), grid.tensor_size)
        bias = model.use_bias_in_attn_linear
        self.query_key_value = grid.layers.column_linear(hidden, width + 2 * shared, dtype, fill if initialize else None, bias)
        self.dense = grid.layers.row_linear(width, hidden, dtype, make_output_init(model) if initialize else None, bias)

    def forward(self, hidden_SBH: torch.Tensor, cache: CacheView | None = None) -> torch.Tensor:
        """Return the layer's output [S, B, H]. With a cache, B is 1, and each row also attends to the tokens in its cache."""
        if cache is not None:
            return self.dense(self.attend_cached(self.query_key_value(hidden_SBH)[:, 0], cache))
        query_SBND, key_SBGD, value_SBGD = self.split_heads(self.query_key_value(hidden_SBH))
        if self.q_norm is not None and self.k_norm is not None:
            query_SBND, key_SBGD = self.q_norm(query_SBND), self.k_norm(key_SBGD)
        if self.rotary is not None:
            cos, sin = self.rotary.first(hidden_SBH.shape[0], query_SBND.device, query_SBND.dtype)
            query_SBND, key_SBGD = rotate(query_SBND, cos, sin), rotate(key_SBGD, cos, sin)
        query, key, value = (rearrange(tensor, "s b n d -> b n s d") for tensor in (query_SBND, key_SBGD, value_SBGD))
        context_BNSD = self.attend(query, key, value)
        return self.dense(rearrange(context_BNSD, "b n s d -> s b (n d)"))

    def attend_cached(self, fused: torch.Tensor, cache: CacheView) -> torch.Tensor:
        """Return the attention output [S, 1, N D] of the new tokens, computed from their fused projection [S, (N + 2 G) D].

        The queries and keys in `fused` are normalized and rotated in place."""
        if self.is_grouped:
            heads = fused.unflatten(-1, (-1, self.head_dim))
            query_key, key_value_S2GD = heads[:, : -self.num_groups], heads[:, self.num_heads :].unflatten(1, (2, -1))
            query_SND, key_SGD = query_key[:, : self.num_heads], query_key[:, self.num_heads :]
        else:
            heads = fused.unflatten(-1, (self.num_heads, 3, self.head_dim))
            query_key, key_value_S2GD = heads[:, :, :2], heads[:, :, 1:].transpose(1, 2)
            query_SND, key_SGD = query_key.unbind(2)
        if self.q_norm is not None and self.k_norm is not None:
            query_SND.copy_(self.q_norm(query_SND))
            key_SGD.copy_(self.k_norm(key_SGD))
        if self.rotary is not None:
            cos, sin = self.rotary.at(cache.positions_S, fused.dtype, cache.tables)
            rotate_in_place(query_key, cos if self.is_grouped else cos[:, None], sin if self.is_grouped else sin[:, None])
        return cache.attend(self.layer_index, query_SND, key_value_S2GD, self.slopes)

    def split_heads(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split the fused projection [S, B, (N + 2 G) D] into query_SBND, key_SBGD and value_SBGD."""
        if not self.is_grouped:
            return fused.unflatten(-1, (self.num_heads, 3 * self.head_dim)).split(self.head_dim, dim=-1)
        heads = fused.unflatten(-1, (self.num_heads + 2 * self.num_groups, self.head_dim))
        return heads.split([self.num_heads, self.num_groups, self.num_groups], dim=-2)

    def attend(self, query_BNSD: torch.Tensor, key_BGSD: torch.Tensor, value_BGSD: torch.Tensor) -> torch.Tensor:
        """Return causal attention, softmax(q k^T / sqrt(D) + alibi) v: [B, N, S, D]."""
        if is_emulated(query_BNSD):
            return self.attend(query_BNSD.float(), key_BGSD.float(), value_BGSD.float()).to(query_BNSD.dtype)
        drops = self.training and self.dropout
        if not drops and is_better_in_blocks(query_BNSD):
            return blocked_attention(query_BNSD, key_BGSD, value_BGSD, self.slopes)
        if self.slopes is None:
            mask: dict[str, Any] = {"is_causal": True}
        else:
            mask = {"attn_mask": compute_causal_bias(self.slopes, query_BNSD.shape[2], query_BNSD.device, query_BNSD.dtype)}
        if not drops:
            return self.compute_attention(query_BNSD, key_BGSD, value_BGSD, **mask)
        with self.generator.fork():
            return self.compute_attention(query_BNSD, key_BGSD, value_BGSD, dropout_p=self.dropout, **mask)

    def compute_attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **keywords: Any) -> torch.Tensor:
        """Return the output of torch's own causal attention kernel for the whole sequence."""
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=self.is_grouped, **keywords)
