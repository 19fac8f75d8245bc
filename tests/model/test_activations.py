"""Activations against torch's own and against their published formulas; the width of the layer against published models."""

import math

import pytest
import torch
from transformers.activations import ACT2FN

from neox_code.model.activations import build_activation

INPUT = torch.linspace(-4, 4, 64).view(4, 16)


@pytest.mark.parametrize(
    ("activation", "peer"), [("gelu", "gelu"), ("relu", "relu"), ("swish", "swish"), ("silu", "silu"), ("mish", "mish")]
)
def test_plain_activations_equal_those_of_transformers(model_config, activation, peer):
    torch.testing.assert_close(build_activation(model_config(activation=activation))(INPUT), ACT2FN[peer](INPUT))


def test_softsign_equals_its_formula(model_config):
    torch.testing.assert_close(build_activation(model_config(activation="softsign"))(INPUT), INPUT / (1 + INPUT.abs()))


def test_bias_gelu_fusion_uses_the_tanh_approximation_only_without_a_gate(model_config):
    fused = build_activation(model_config(bias_gelu_fusion=True))
    torch.testing.assert_close(fused(INPUT), ACT2FN["gelu_new"](INPUT))
    gated = build_activation(model_config(bias_gelu_fusion=True, activation="geglu"))
    up, gate = INPUT.chunk(2, -1)
    torch.testing.assert_close(gated(INPUT), up * ACT2FN["gelu"](gate))


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("glu", lambda gate: 1 / (1 + math.exp(-gate))),
        ("bilinear", lambda gate: gate),
        ("reglu", lambda gate: max(gate, 0.0)),
        ("geglu", lambda gate: gate * (1 + math.erf(gate / math.sqrt(2))) / 2),
        ("swiglu", lambda gate: gate / (1 + math.exp(-gate))),
    ],
)
def test_gates_are_the_second_half_and_their_published_functions(model_config, activation, function):
    output = build_activation(model_config(activation=activation))(INPUT)
    for row, column in ((0, 0), (1, 5), (3, 7)):
        up, gate = INPUT[row, column].item(), INPUT[row, column + 8].item()
        assert output[row, column].item() == pytest.approx(up * function(gate), abs=1e-6)


@pytest.mark.parametrize(
    ("hidden", "keys", "width"),
    [
        (4096, {"intermediate_size": 32768, "activation": "swiglu", "mlp_multiple_of": 256}, 11008),  # LLaMA 2 7B
        (8192, {"intermediate_size": 86016, "activation": "swiglu", "mlp_multiple_of": 256}, 28672),  # LLaMA 2 70B
        (768, {}, 3072),
        (768, {"activation": "geglu"}, 1024),
        (768, {"expansion_factor": 3.5}, 2688),
        (768, {"intermediate_size": 3000, "mlp_multiple_of": 64}, 3008),
    ],
)
def test_the_width_of_the_feed_forward_layer_is_that_of_gpt_neox(model_config, hidden, keys, width):
    assert model_config(hidden_size=hidden, **keys).feed_forward_size == width
