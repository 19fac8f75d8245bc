"""Activations against torch's own and against their published formulas; the width of the layer against published models."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from neox_code.machine import cpu_computes_bf16
from neox_code.model.activations import build_activation
from neox_code.model.mlp import fuse_activations
from neox_code.parallel.packed import pack_weights

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


@pytest.mark.skipif(not cpu_computes_bf16(), reason="this CPU has no instructions for bf16")
@pytest.mark.parametrize("tanh", [True, False])
def test_packed_layers_compute_the_gelu_that_follows_them(model_config, build_gpt, tanh):
    torch.manual_seed(0)
    gpt = build_gpt(model_config(bias_gelu_fusion=tanh)).bfloat16()
    (mlp,) = (module for name, module in gpt.named_modules() if name == "sequential.2.mlp")
    input_ = 3 * torch.randn(9, 1, mlp.dense_h_to_4h.weight.shape[1]).bfloat16()
    first, second = (layer.double() for layer in (copy.deepcopy(mlp.dense_h_to_4h), copy.deepcopy(mlp.dense_4h_to_h)))
    approximate = "tanh" if tanh else "none"
    with torch.inference_mode():
        exact = second(F.gelu(first(input_.double()), approximate=approximate))
        other = F.gelu(first(input_.double()), approximate="none" if tanh else "tanh")
        pack_weights(gpt)
        fuse_activations(gpt)
        torch.testing.assert_close(mlp(input_).double(), exact, rtol=2**-7, atol=2**-8)
        inner = mlp.dense_h_to_4h(input_)
        assert isinstance(mlp.activation, nn.Identity) and (inner.double() - other).abs().max() > 1e-3
        assert torch.equal(torch.cat([mlp(row[None]) for row in input_]), mlp(input_)), "the same bits alone"
