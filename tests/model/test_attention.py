"""Attention with scaled layers in GPT-NeoX's order of operations: scores / layer, then alibi, then * layer."""

import math

import pytest
import torch

from neox_code.model.attention import Attention
from neox_code.parallel.grid import single_process_grid

HEADS, HEAD_DIM, SEQUENCE = 4, 16, 40
SLOPES = torch.tensor([2.0 ** (-8 * (head + 1) / HEADS) for head in range(HEADS)], dtype=torch.float64)


def attend_plainly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, coefficient: int, slopes: torch.Tensor
) -> torch.Tensor:
    """Return the context [B, N, S, D], computed step by step."""
    scores = query @ key.transpose(-1, -2) / (math.sqrt(HEAD_DIM) * coefficient)
    distance = torch.arange(SEQUENCE) - torch.arange(SEQUENCE)[:, None]
    scores = (scores + slopes[:, None, None] * distance) * coefficient
    return torch.softmax(scores.masked_fill(distance > 0, torch.finfo(scores.dtype).min), -1) @ value


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("pos_emb", ["alibi", "none"])
@pytest.mark.parametrize(
    ("layer_index", "keys", "coefficient"),
    [
        (0, {}, 1),
        (1, {}, 1),
        (5, {}, 5),
        (5, {"attention_config": ("flash",)}, 1),
        (5, {"attention_config": ("global", "flash")}, 1),
        (6, {"attention_config": ("global", "flash")}, 6),
        (5, {"apply_query_key_layer_scaling": False}, 1),
    ],
)
def test_scaling_by_the_layer_index_changes_only_the_slopes(
    model_config, monkeypatch, layer_index, keys, coefficient, pos_emb, in_blocks
):
    monkeypatch.setattr("neox_code.model.attention.is_better_in_blocks", lambda query: in_blocks)
    model = model_config(**{"apply_query_key_layer_scaling": True, "num_attention_heads": HEADS, "pos_emb": pos_emb, **keys})
    torch.manual_seed(0)
    attention = Attention(model, layer_index, single_process_grid(), torch.float64)
    hidden = torch.randn(SEQUENCE, 2, model.hidden_size, dtype=torch.float64)
    with torch.no_grad():
        query, key, value = (part.permute(1, 2, 0, 3) for part in attention.split_heads(30 * attention.query_key_value(hidden)))
        context = attend_plainly(query, key, value, coefficient, SLOPES if pos_emb == "alibi" else 0 * SLOPES)
        torch.testing.assert_close(attention.attend(query, key, value), context, atol=1e-12, rtol=0)
