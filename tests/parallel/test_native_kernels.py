"""The compiled passes of a training step against torch's operators in fp32."""

import pytest
import torch
from torch.nn import functional as F

from neox_code.model.activations import apply_gate, tanh_gelu
from neox_code.native_library import find_compiler
from neox_code.parallel import native_kernels
from neox_code.parallel.native_kernels import AdamWStep, NativeLinear, is_native, scale, sum_squares, transpose, update_adamw
from neox_code.parallel.plain_layers import linear

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
ODD = 70_001  # several blocks, and a rest that fills no vector


@pytest.fixture(autouse=True)
def generator() -> None:
    torch.manual_seed(3)


def make(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16()


def assert_rounded(ours: torch.Tensor, exact: torch.Tensor) -> None:
    """Raise AssertionError unless `ours` is the bf16 tensor nearest to `exact`, up to one unit in the last place."""
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.to(exact.dtype), exact, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(64, 96), (100, 70), (1, 33), (33, 1)])
def test_a_matrix_is_transposed_and_its_columns_are_added_in_fp32(rows, columns):
    matrix = make(rows, columns)
    transposed, sums = transpose(matrix, True)
    assert torch.equal(transposed, matrix.t())
    torch.testing.assert_close(sums.float(), matrix.float().sum(0), rtol=2**-8, atol=1e-5)


def test_gelu_and_its_gradient_are_rounded_once():
    values = 3 * make(ODD)
    values[:4] = torch.tensor([100.0, -100.0, 0.0, -1e-30])
    values.requires_grad_()
    exact = values.detach().double().requires_grad_()
    upstream = make(ODD)
    ours = tanh_gelu(values)
    assert "NativeTanhGelu" in type(ours.grad_fn).__name__
    ours.backward(upstream)
    F.gelu(exact, approximate="tanh").backward(upstream.double())
    assert_rounded(ours.detach(), F.gelu(exact.detach(), approximate="tanh"))
    assert_rounded(values.grad, exact.grad)


def test_swiglu_and_its_gradient_are_rounded_once():
    values, upstream = (3 * make(37, 2 * 101)).requires_grad_(), make(37, 101)
    exact = values.detach().double().requires_grad_()
    ours = apply_gate(F.silu, values)
    assert "NativeSwiglu" in type(ours.grad_fn).__name__
    ours.backward(upstream)
    expected = exact[:, :101] * F.silu(exact[:, 101:])
    expected.backward(upstream.double())
    assert_rounded(ours.detach(), expected.detach())
    torch.testing.assert_close(values.grad.double(), exact.grad, rtol=2**-7, atol=1e-5)  # a factor of the slope has a zero


def test_numbers_are_scaled_in_place_and_rounded_once():
    values = make(ODD)
    expected = values.double() * 0.3
    scale(values, torch.tensor(0.3))
    assert_rounded(values, expected)


@pytest.mark.parametrize("frozen", ["", "input", "bias"])
def test_a_linear_layer_has_the_gradients_of_torch(frozen):
    tensors = {"input": make(2, 50, 40), "weight": make(72, 40), "bias": make(72)}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name != frozen)
    output = linear(*tensors.values())
    assert type(output.grad_fn).__name__ == NativeLinear.__name__ + "Backward"
    upstream = make(2, 72, 50).transpose(1, 2)
    output.backward(upstream)
    exact = [tensor.detach().float().requires_grad_() for tensor in tensors.values()]
    F.linear(*exact).backward(upstream.float())
    for (name, tensor), expected in zip(tensors.items(), exact, strict=True):
        if name == frozen:
            assert tensor.grad is None
        else:
            torch.testing.assert_close(tensor.grad.float(), expected.grad, rtol=2**-7, atol=2**-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_adamw_makes_the_updates_of_torch_and_writes_the_bf16_weights(dtype):
    master, moments, weights = torch.randn(ODD), (torch.zeros(ODD), torch.zeros(ODD)), torch.zeros(ODD).bfloat16()
    expected = torch.nn.Parameter(master.clone())
    optimizer = torch.optim.AdamW([expected], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for count in range(1, 4):
        gradient = make(ODD).to(dtype)
        update_adamw(
            AdamWStep(1e-2, 0.9, 0.95, 1e-8, 0.1, 4.0, 1 - 0.9**count, 1 - 0.95**count), master, *moments, gradient, weights
        )
        expected.grad = gradient.float() / 4
        optimizer.step()
    torch.testing.assert_close(master, expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments[1], optimizer.state[expected]["exp_avg_sq"], rtol=1e-5, atol=1e-9)
    assert torch.equal(weights, master.bfloat16())
    torch.testing.assert_close(sum_squares(gradient), gradient.double().square().sum(), rtol=1e-6, atol=0)


def test_results_do_not_depend_on_the_number_of_threads():
    values = make(ODD)
    results = []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            results.append((sum_squares(values), *transpose(values[:70_000].view(700, 100), True)))
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(one, other) for result in results[1:] for one, other in zip(results[0], result, strict=True))


def test_without_a_compiler_torch_computes(monkeypatch):
    assert is_native(make(8))
    monkeypatch.setattr(native_kernels, "load_kernels", lambda: None)
    assert not is_native(make(8))
    assert type(tanh_gelu(make(8).requires_grad_()).grad_fn).__name__ == "GeluBackward0"
