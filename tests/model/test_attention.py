"""Attention with scaled layers in GPT-NeoX's order of operations: scores / layer, then alibi, then * layer."""

import math

import pytest
import torch

from neox_code.model.attention import Attention
from neox_code.parallel.grid import single_process_grid
from neox_code.parallel.native_attention import load_attention

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


@pytest.mark.skipif(load_attention() is None, reason="there is no compiler, or no instructions for bf16")
@pytest.mark.parametrize("keys", [{}, {"num_kv_heads": 2, "qk_norm": True}, {"pos_emb": "alibi"}], ids=["plain", "groups", "alibi"])
def test_the_layer_with_compiled_attention_is_as_near_to_fp32_as_the_layer_without(model_config, monkeypatch, keys):
    model = model_config(num_attention_heads=4, rotary_pct=0.5, **keys)
    hidden = torch.randn(2, 40, model.hidden_size, generator=torch.Generator().manual_seed(0))
    contexts = {}
    for name, dtype in (("exact", torch.float32), ("ours", torch.bfloat16), ("torch", torch.bfloat16)):
        if name == "torch":
            monkeypatch.setattr("neox_code.model.attention.is_native_attention", lambda fused: False)
        torch.manual_seed(0)
        layer = Attention(model, 0, single_process_grid(), dtype)
        with torch.no_grad():
            layer.query_key_value.weight.copy_(layer.query_key_value.weight.bfloat16() * 10)
            contexts[name] = layer(hidden.to(dtype), row_inputs=layer.prepare(hidden.to(dtype), None, None))[0]
    distances = [(contexts[name].float() - contexts["exact"]).norm() for name in ("ours", "torch")]
    assert distances[0] < 1.1 * distances[1]
    assert not torch.equal(contexts["ours"], contexts["torch"])
