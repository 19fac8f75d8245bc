"""The model against transformers' GPTNeoX, its parameters against their published number."""

import itertools

import pytest
import torch

from neox_code.config.model_size import count_parameters
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

VOCAB_SIZE, PADDED = 250, 256


def make_tokens(batch: int = 2, length: int = 40) -> torch.Tensor:
    return torch.randint(0, VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("gpt_j_residual", "bias_gelu_fusion", "rotary_pct", "no_weight_tying"),
    list(itertools.product([False, True], [False, True], [0.25, 1.0], [False, True])),
)
def test_logits_equal_those_of_transformers(
    model_config, build_gpt, as_transformers, gpt_j_residual, bias_gelu_fusion, rotary_pct, no_weight_tying
):
    model = model_config(
        gpt_j_residual=gpt_j_residual, bias_gelu_fusion=bias_gelu_fusion, rotary_pct=rotary_pct, no_weight_tying=no_weight_tying
    )
    gpt = build_gpt(model)
    with torch.no_grad():
        torch.testing.assert_close(gpt(make_tokens()), as_transformers(gpt, model)(make_tokens()).logits, atol=1e-5, rtol=0)


def test_gradients_equal_those_of_transformers(model_config, build_gpt, as_transformers):
    model = model_config(rotary_pct=0.25)
    gpt = build_gpt(model)
    peer = as_transformers(gpt, model)
    gpt(make_tokens()).square().mean().backward()
    peer(make_tokens()).logits.square().mean().backward()
    ours = gpt.get_parameter("sequential.2.attention.query_key_value.weight").grad
    theirs = peer.gpt_neox.layers[0].attention.query_key_value.weight.grad
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_initial_weights_do_not_depend_on_the_padding(model_config):
    model = model_config()
    narrow, wide = (
        GPT(build_layers(model, VOCAB_SIZE, padded, single_process_grid(), torch.float32)).state_dict() for padded in (256, 384)
    )
    for name, value in narrow.items():
        torch.testing.assert_close(value[:VOCAB_SIZE], wide[name][:VOCAB_SIZE], atol=0, rtol=0)


@pytest.mark.parametrize("keys", [{}, {"no_weight_tying": False}, {"pos_emb": "learned"}, {"intermediate_size": 96}])
def test_the_parameter_count_is_that_of_the_built_model(model_config, keys):
    model = model_config(**keys)
    built = GPT(build_layers(model, VOCAB_SIZE, PADDED, single_process_grid(), torch.float32))
    assert count_parameters(model, PADDED) == sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "published"), [(12, 768, 12, 160e6), (24, 1024, 16, 405e6), (32, 2560, 32, 2.7e9)]
)
def test_the_published_sizes_have_their_published_parameter_counts(model_config, layers, hidden, heads, published):
    model = model_config(num_layers=layers, hidden_size=hidden, num_attention_heads=heads)
    assert count_parameters(model, 50304) == pytest.approx(published, rel=0.03)
