"""Multi-head self-attention with a fused projection for queries, keys and values.

The rows of the fused projection have GPT-NeoX's order. If every head has its own keys and values, the rows are interleaved by head.
If heads share them (grouped-query attention), three matrices lie one below the other on each tensor rank:

    num_kv_heads = num_attention_heads    [head 0: q k v | head 1: q k v | ...]                  D rows each
    num_kv_heads < num_attention_heads    [q of head 0, 1, ... | k of group 0, ... | v of group 0, ...]

With `value_residual` the values v of each block but the first are replaced by a[0] v + a[1] v1, with two learned numbers a and the
first block's values v1.

Shape letters: S sequence, B batch, H hidden, N heads of this tensor rank, G groups of heads that share keys and values, D head
dimensions, T keys.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.checkpoint import checkpoint

from neox_code.config.model import ModelConfig
from neox_code.model.alibi import compute_causal_bias, compute_layer_slopes
from neox_code.model.blocked_attention import blocked_attention, is_better_in_blocks
from neox_code.model.dropout import drop_probabilities
from neox_code.model.flexible_attention import flexible_attention, is_visible, make_block_mask
from neox_code.model.initialization import initialize_in_parts, make_input_init, make_output_init
from neox_code.model.kv_cache import CacheView
from neox_code.model.norms import RMSNorm
from neox_code.model.positions import RotaryTable, rotate, rotate_in_place
from neox_code.model.sharding import count_query_key_value_rows
from neox_code.parallel.collectives import sum_gradients
from neox_code.parallel.counter_numbers import derive_keys
from neox_code.parallel.emulated import is_emulated
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.native_attention import HeadForm, is_native_attention, native_attention


class RowInputs(NamedTuple):
    """Inputs of a block in whole rows: cos and sin of rotary positions, with separated documents the starts of the documents and
    FlexAttention's mask, and with dropout this layer's key of each row."""

    cos: torch.Tensor | None = None
    sin: torch.Tensor | None = None
    starts_BS: torch.Tensor | None = None
    block_mask: BlockMask | None = None
    keys_B: torch.Tensor | None = None


NO_ROW_INPUTS = RowInputs()


class Attention(nn.Module):
    def __init__(
        self,
        model: ModelConfig,
        layer_index: int,
        grid: ParallelGrid,
        dtype: torch.dtype,
        initialize: bool = True,
        recomputes: bool = False,
    ):
        super().__init__()
        self.model = model
        self.recomputes = recomputes or model.attention_dropout > 0  # with dropout, S x S probabilities would be kept
        self.sequence_group = grid.sequence_group
        self.layer_index = layer_index
        self.num_heads = model.num_attention_heads // grid.tensor_size
        self.num_groups = model.kv_heads // grid.tensor_size
        self.is_grouped = model.kv_heads < model.num_attention_heads
        self.head_dim = model.head_dim
        self.dropout = model.attention_dropout
        self.rotary = (
            RotaryTable(model.head_dim, model.rotary_pct, model.rotary_emb_base, model.max_position_embeddings)
            if model.pos_emb == "rotary"
            else None
        )
        self.q_norm, self.k_norm = (
            RMSNorm(model.head_dim, model.rms_norm_epsilon, dtype, grid.tensor_group) if model.qk_norm else None for _ in range(2)
        )
        is_mixed = model.value_residual and layer_index > 0
        self.value_residual = nn.Parameter(torch.tensor([0.5, 0.5], dtype=dtype)) if is_mixed else None
        self.tensor_group = grid.tensor_group
        self.heads = slice(grid.tensor_rank * self.num_heads, (grid.tensor_rank + 1) * self.num_heads)
        self.slopes = compute_layer_slopes(model, layer_index)[self.heads] if model.pos_emb == "alibi" else None
        hidden, width, shared = model.hidden_size, model.attention_width, model.kv_heads * model.head_dim
        fill = initialize_in_parts(make_input_init(model), count_query_key_value_rows(model))
        bias = model.use_bias_in_attn_linear
        self.query_key_value = grid.layers.column_linear(hidden, width + 2 * shared, dtype, fill if initialize else None, bias)
        self.dense = grid.layers.row_linear(width, hidden, dtype, make_output_init(model) if initialize else None, bias)

    def forward(
        self,
        hidden_BSH: torch.Tensor,
        first_BSGD: torch.Tensor | None = None,
        cache: CacheView | None = None,
        row_inputs: RowInputs = NO_ROW_INPUTS,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the layer's output [B, S, H], and with `value_residual` the first block's values [B, S, G, D], which later blocks
        receive as `first_BSGD`.

        With a cache, B is 1, and each row also attends to the tokens in its cache. Without a cache `row_inputs` is the result of
        `prepare`.
        """
        fused = self.query_key_value(hidden_BSH)
        if self.sequence_group is not None:
            fused = fused.transpose(0, 1)
        if self.model.value_residual and first_BSGD is None:
            first_BSGD = self.split_heads(fused)[2].contiguous()
        if cache is not None:
            return self.dense(self.attend_cached(fused[0], first_BSGD, cache).transpose(0, 1)), first_BSGD
        context_BSM = (
            checkpoint(self.attend_rows, fused, first_BSGD, row_inputs, use_reentrant=False)
            if self.recomputes and torch.is_grad_enabled()
            else self.attend_rows(fused, first_BSGD, row_inputs)
        )
        return self.dense(context_BSM if self.sequence_group is None else context_BSM.transpose(0, 1)), first_BSGD

    def mix_values(self, value_BSGD: torch.Tensor, first_BSGD: torch.Tensor | None) -> torch.Tensor:
        """Return the values, mixed with those of the first block in the blocks that have factors for it."""
        if self.value_residual is None or first_BSGD is None:
            return value_BSGD
        factors = sum_gradients(self.value_residual, self.tensor_group)
        return factors[0] * value_BSGD + factors[1] * first_BSGD

    def prepare(self, hidden_BSH: torch.Tensor, starts_BS: torch.Tensor | None, keys_B: torch.Tensor | None) -> RowInputs:
        """Return what a block needs besides the hidden state: outside a compiled block, because it reads and fills tables, and
        because all layers share a compiled block."""
        length = hidden_BSH.shape[1] if self.sequence_group is None else hidden_BSH.shape[0] * self.sequence_group.size()
        reset = starts_BS if self.model.reset_position_ids else None
        cos, sin = (None, None) if self.rotary is None else self.rotary.of_rows(length, reset, hidden_BSH.device, hidden_BSH.dtype)
        starts_BS = starts_BS if self.model.reset_attention_mask else None
        is_flexible = hidden_BSH.device.type == "cuda" and not (self.training and self.dropout)
        needs_mask = is_flexible and (starts_BS is not None or self.slopes is not None)
        block_mask = make_block_mask(length, hidden_BSH.device, starts_BS) if needs_mask else None
        return RowInputs(cos, sin, starts_BS, block_mask, None if keys_B is None else derive_keys(keys_B, self.layer_index + 1))

    def attend_rows(self, fused: torch.Tensor, first_BSGD: torch.Tensor | None, row_inputs: RowInputs) -> torch.Tensor:
        """Return the attention output [B, S, N D] of whole rows, computed from their fused projection [B, S, (N + 2 G) D]."""
        if self.value_residual is None and not (self.training and self.dropout) and is_native_attention(fused):
            return self.attend_natively(fused, row_inputs)
        query_BSND, key_BSGD, value_BSGD = self.split_heads(fused)
        value_BSGD = self.mix_values(value_BSGD, first_BSGD)
        if self.q_norm is not None and self.k_norm is not None:
            query_BSND, key_BSGD = self.q_norm(query_BSND), self.k_norm(key_BSGD)
        if row_inputs.cos is not None and row_inputs.sin is not None:
            query_BSND, key_BSGD = (rotate(tensor, row_inputs.cos, row_inputs.sin) for tensor in (query_BSND, key_BSGD))
        query, key, value = (tensor.transpose(1, 2) for tensor in (query_BSND, key_BSGD, value_BSGD))
        if self.training and self.dropout:
            assert row_inputs.keys_B is not None
            context_BNSD = self.attend_with_dropout(query, key, value, row_inputs.starts_BS, row_inputs.keys_B)
        else:
            context_BNSD = self.attend(query, key, value, row_inputs.starts_BS, row_inputs.block_mask)
        return context_BNSD.transpose(1, 2).flatten(2)

    def attend_natively(self, fused: torch.Tensor, row_inputs: RowInputs) -> torch.Tensor:
        """Return what `attend_rows` returns, from one compiled pass that reads the fused projection."""
        cos, sin, starts_BS, *_ = row_inputs
        epsilon, scales = 0.0, None
        if self.q_norm is not None and self.k_norm is not None:
            epsilon = self.q_norm.epsilon
            scales = (sum_gradients(self.q_norm.scale, self.tensor_group), sum_gradients(self.k_norm.scale, self.tensor_group))
        form = HeadForm(self.num_heads, self.num_groups, self.head_dim, self.is_grouped, epsilon)
        rotary = None if cos is None or sin is None else (cos, sin)
        return native_attention(fused, form, rotary, scales, starts_BS, self.slopes)

    def attend_cached(self, fused: torch.Tensor, first_BSGD: torch.Tensor | None, cache: CacheView) -> torch.Tensor:
        """Return the attention output [S, 1, N D] of the new tokens, computed from their fused projection [S, (N + 2 G) D].

        The queries and keys in `fused` are normalized and rotated, and the values mixed, in place."""
        if self.is_grouped:
            heads = fused.unflatten(-1, (-1, self.head_dim))
            query_key, key_value_S2GD = heads[:, : -self.num_groups], heads[:, self.num_heads :].unflatten(1, (2, -1))
            query_SND, key_SGD = query_key[:, : self.num_heads], query_key[:, self.num_heads :]
        else:
            heads = fused.unflatten(-1, (self.num_heads, 3, self.head_dim))
            query_key, key_value_S2GD = heads[:, :, :2], heads[:, :, 1:].transpose(1, 2)
            query_SND, key_SGD = query_key.unbind(2)
        if first_BSGD is not None:
            value_SGD = key_value_S2GD[:, 1]
            value_SGD.copy_(self.mix_values(value_SGD, first_BSGD[0]))
        if self.q_norm is not None and self.k_norm is not None:
            query_SND.copy_(self.q_norm(query_SND))
            key_SGD.copy_(self.k_norm(key_SGD))
        if self.rotary is not None:
            cos, sin = self.rotary.at(cache.positions_S, fused.dtype, cache.tables)
            rotate_in_place(query_key, cos if self.is_grouped else cos[:, None], sin if self.is_grouped else sin[:, None])
        return cache.attend(self.layer_index, query_SND, key_value_S2GD, self.slopes)

    def split_heads(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split the fused projection [B, S, (N + 2 G) D] into query_BSND, key_BSGD and value_BSGD."""
        if not self.is_grouped:
            return fused.unflatten(-1, (self.num_heads, 3 * self.head_dim)).split(self.head_dim, dim=-1)
        heads = fused.unflatten(-1, (self.num_heads + 2 * self.num_groups, self.head_dim))
        return heads.split([self.num_heads, self.num_groups, self.num_groups], dim=-2)

    def attend(
        self,
        query_BNSD: torch.Tensor,
        key_BGSD: torch.Tensor,
        value_BGSD: torch.Tensor,
        starts_BS: torch.Tensor | None = None,
        block_mask: BlockMask | None = None,
    ) -> torch.Tensor:
        """Return causal attention, softmax(q k^T / sqrt(D) + alibi) v: [B, N, S, D]; with `starts_BS`, within each document."""
        if is_emulated(query_BNSD):
            return self.attend(query_BNSD.float(), key_BGSD.float(), value_BGSD.float(), starts_BS).to(query_BNSD.dtype)
        if block_mask is not None:
            return flexible_attention(query_BNSD, key_BGSD, value_BGSD, block_mask, self.slopes)
        if is_better_in_blocks(query_BNSD):
            return blocked_attention(query_BNSD, key_BGSD, value_BGSD, self.slopes, starts_BS)
        if self.slopes is None and starts_BS is None:
            mask: dict[str, Any] = {"is_causal": True}
        else:
            mask = {"attn_mask": self.compute_mask(query_BNSD, starts_BS)}
        return self.compute_attention(query_BNSD, key_BGSD, value_BGSD, **mask)

    def attend_with_dropout(
        self,
        query_BNSD: torch.Tensor,
        key_BGSD: torch.Tensor,
        value_BGSD: torch.Tensor,
        starts_BS: torch.Tensor | None,
        keys_B: torch.Tensor,
    ) -> torch.Tensor:
        """Return causal attention with dropout of its probabilities, in plain operations: no kernel accepts a mask of dropout."""
        if self.is_grouped:
            shared = self.num_heads // self.num_groups
            key_BGSD, value_BGSD = key_BGSD.repeat_interleave(shared, 1), value_BGSD.repeat_interleave(shared, 1)
        length = query_BNSD.shape[2]
        scores_BNST = (query_BNSD * self.head_dim**-0.5) @ key_BGSD.transpose(2, 3)
        if self.slopes is None and starts_BS is None:
            visible = torch.ones(length, length, dtype=torch.bool, device=query_BNSD.device).tril()
        else:
            visible = self.compute_mask(query_BNSD, starts_BS)
        masked = scores_BNST.masked_fill(~visible, -torch.inf) if visible.dtype == torch.bool else scores_BNST + visible
        probabilities = masked.softmax(-1, dtype=torch.float32).to(query_BNSD.dtype)
        return drop_probabilities(probabilities, keys_B, self.heads.start, self.dropout) @ value_BGSD

    def compute_mask(self, query_BNSD: torch.Tensor, starts_BS: torch.Tensor | None) -> torch.Tensor:
        """Return the mask that torch adds or applies to the scores.

        It is True where a query attends to a key, [B, 1, S, S], or alibi's bias, [1 or B, N, S, S].
        """
        length, device = query_BNSD.shape[2], query_BNSD.device
        visible_B1SS = None if starts_BS is None else is_visible(torch.arange(length, device=device), starts_BS)[:, None]
        if self.slopes is None:
            assert visible_B1SS is not None
            return visible_B1SS
        bias = compute_causal_bias(self.slopes, length, device, query_BNSD.dtype)
        return bias if visible_B1SS is None else bias.masked_fill(~visible_B1SS, -torch.inf)

    def compute_attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **keywords: Any) -> torch.Tensor:
        """Return the output of torch's own causal attention kernel for the whole sequence."""
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=self.is_grouped, **keywords)
