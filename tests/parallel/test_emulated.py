"""Products in fp32 on a CPU without bf16 instructions against the plain bf16 ones."""

import pytest
import torch
from torch.nn import functional as F

from neox_code.parallel import emulated
from neox_code.parallel.plain_layers import PlainLinear


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("has_instructions", [False, True])
def test_a_product_and_its_gradients_equal_those_of_bf16(monkeypatch, rows, has_instructions):
    monkeypatch.setattr(emulated, "cpu_computes_bf16", lambda: has_instructions)
    torch.manual_seed(1)
    layer = PlainLinear(64, 48, torch.bfloat16, lambda weight, part: weight.normal_())
    plain = [tensor.detach().clone().requires_grad_() for tensor in (torch.randn(rows, 64).bfloat16(), layer.weight, layer.bias)]
    input_ = plain[0].detach().clone().requires_grad_()
    output, expected = layer(input_), F.linear(*plain)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected, rtol=0.02, atol=0.1)
    output.square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip((input_, layer.weight, layer.bias), plain, strict=True):
        assert ours.grad.dtype == torch.bfloat16
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0.05, atol=2.0 + 0.02 * float(theirs.grad.abs().max()))


def test_products_in_fp32_and_of_few_rows_are_not_widened(monkeypatch):
    monkeypatch.setattr(emulated, "cpu_computes_bf16", lambda: False)
    assert not emulated.is_faster_in_fp32(torch.zeros(100, 8))
    assert not emulated.is_faster_in_fp32(torch.zeros(emulated.FEW_ROWS, 8, dtype=torch.bfloat16))
    assert emulated.is_faster_in_fp32(torch.zeros(100, 8, dtype=torch.bfloat16))
