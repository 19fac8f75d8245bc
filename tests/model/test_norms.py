"""RMS norm against transformers' Llama."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from neox_code.model.norms import build_norm


@pytest.mark.parametrize("epsilon", [1e-8, 1.0])
def test_rmsnorm_and_its_gradients_equal_those_of_transformers(model_config, epsilon):
    ours = build_norm(model_config(norm="rmsnorm", rms_norm_epsilon=epsilon), torch.float32)
    theirs = LlamaRMSNorm(64, eps=epsilon)
    generator = torch.Generator().manual_seed(1)
    weight, input_ = torch.randn(64, generator=generator), torch.randn(2, 5, 64, generator=generator)
    results = []
    for norm in (ours, theirs):
        (parameter,) = norm.parameters()
        with torch.no_grad():
            parameter.copy_(weight)
        of_input = input_.clone().requires_grad_()
        output = norm(of_input)
        output.square().sum().backward()
        results.append((output, of_input.grad, parameter.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_rmsnorm_has_the_name_of_gpt_neox_and_no_bias(model_config):
    assert list(build_norm(model_config(norm="rmsnorm"), torch.float32).state_dict()) == ["scale"]


def test_rmsnorm_in_bf16_is_rounded_once(model_config):
    norm = build_norm(model_config(norm="rmsnorm"), torch.bfloat16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        norm.scale.copy_(torch.randn(64, generator=generator))
    input_ = torch.randn(2, 5, 64, generator=generator).bfloat16()
    exact = input_.double() / input_.double().square().mean(-1, keepdim=True).sqrt() * norm.scale.double()
    torch.testing.assert_close(norm(input_).double(), exact, atol=0, rtol=2**-8)
