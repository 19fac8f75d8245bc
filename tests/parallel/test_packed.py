"""Packed weights against the plain product in fp64."""

import weakref

import pytest
import torch
from torch import nn

from neox_code.machine import cpu_computes_bf16
from neox_code.parallel import packed
from neox_code.parallel.packed import PackedLinear, QuantizedLinear, pack_weights
from neox_code.parallel.plain_layers import PlainLinear

needs_bf16 = pytest.mark.skipif(not cpu_computes_bf16(), reason="this CPU has no instructions for bf16")


def make_layer(dtype: torch.dtype, bias: bool) -> PlainLinear:
    torch.manual_seed(0)
    linear = PlainLinear(96, 200, dtype, lambda weight, part: nn.init.normal_(weight, std=0.1), bias)
    if bias:
        nn.init.normal_(linear.bias)
    return linear


@needs_bf16
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (130, 2)])
def test_a_packed_layer_computes_the_plain_product(shape, bias):
    linear = make_layer(torch.bfloat16, bias)
    model = nn.ModuleDict({"linear": linear})
    input_ = torch.randn(*shape, 96).bfloat16()
    exact = input_.double() @ linear.weight.double().t() + (linear.bias.double() if bias else 0)
    pack_weights(model)
    assert isinstance(model["linear"], PackedLinear)
    with torch.inference_mode():
        torch.testing.assert_close(model["linear"](input_).double(), exact, rtol=2**-8, atol=2**-7)


@needs_bf16
def test_each_plain_weight_is_freed_before_the_next_is_packed(monkeypatch):
    model = nn.Sequential(*(nn.ModuleDict({"linear": make_layer(torch.bfloat16, False)}) for _ in range(3)))
    weights = [weakref.ref(block["linear"].weight) for block in model]
    alive = []

    def pack(linear: PlainLinear) -> PackedLinear:
        alive.append(sum(weight() is not None for weight in weights))
        return PackedLinear(linear)

    monkeypatch.setattr(packed, "PackedLinear", pack)
    pack_weights(model)
    assert alive == [3, 2, 1]


def test_fp32_weights_are_not_packed():
    model = nn.ModuleDict({"linear": make_layer(torch.float32, True)})
    pack_weights(model)
    assert isinstance(model["linear"], PlainLinear)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_8_bit_products_are_near_the_exact_ones_and_a_row_has_the_same_bits_beside_any_others(dtype, bias):
    linear = make_layer(dtype, bias)
    model = nn.ModuleDict({"linear": linear})
    input_ = (torch.randn(130, 1, 96) * torch.logspace(-3, 3, 130)[:, None, None]).to(dtype)
    input_[7] = 0
    exact = input_.double() @ linear.weight.double().t() + (linear.bias.double() if bias else 0)
    pack_weights(model, load_in_8bit=True)
    assert isinstance(model["linear"], QuantizedLinear) and model["linear"].weight.dtype == torch.int8
    found = model["linear"](input_)
    assert found.dtype == dtype
    errors = (found.double() - exact).norm(dim=-1) / exact.norm(dim=-1).clamp(min=1e-30)
    assert errors.max() < 0.02
    for rows in (slice(0, 1), slice(5, 13), slice(100, 130)):
        assert torch.equal(model["linear"](input_[rows]), found[rows])
    assert model["linear"](input_[:2].fill_(torch.nan)).isnan().all()
