"""Attention in blocks against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from neox_code.model.alibi import compute_bias
from neox_code.model.blocked_attention import LARGEST_PROBABILITIES, blocked_attention, is_better_in_blocks


@pytest.mark.parametrize("sequence", [1, 127, 128, 300])
def test_context_and_gradients_equal_those_of_torch(sequence):
    torch.manual_seed(0)
    fused = torch.randn(sequence, 2, 3, 3 * 16, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 3, sequence, 16, dtype=torch.float64)

    def context_and_gradient(attend):
        query, key, value = (part.permute(1, 2, 0, 3) for part in fused.split(16, -1))
        context = attend(query, key, value)
        return context, *torch.autograd.grad(context, fused, upstream)

    ours = context_and_gradient(blocked_attention)
    theirs = context_and_gradient(lambda query, key, value: F.scaled_dot_product_attention(query, key, value, is_causal=True))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def assert_equal_with_gradients(ours, theirs, inputs):
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    upstream = torch.randn_like(ours)
    gradients = (torch.autograd.grad(context, inputs, upstream) for context in (ours, theirs))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_heads_that_share_keys_and_values_equal_those_of_torch():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 150, 16, dtype=torch.float64, requires_grad=True) for heads in (6, 2, 2))
    ours = blocked_attention(query, key, value)
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    assert_equal_with_gradients(ours, theirs, (query, key, value))


def test_linear_biases_in_blocks_equal_those_of_whole_sequences():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 300, 16, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    slopes = (0.5, 0.25, 0.125, 0.0625)
    bias = compute_bias(slopes, torch.arange(300)[None], 300, torch.float64)
    ours = blocked_attention(query, key, value, slopes)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, enable_gqa=True)
    assert_equal_with_gradients(ours, theirs, (query, key, value))


def test_the_error_in_bf16_is_that_of_the_plain_formula():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 4, 512, 64).bfloat16() for _ in range(3))
    truth = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), is_causal=True)
    future = torch.full((512, 512), -torch.inf, dtype=torch.bfloat16).triu(1)
    plain = torch.softmax(query @ key.transpose(-1, -2) / 8 + future, -1) @ value

    def distance(context):
        return (context.double() - truth).abs().mean()

    assert distance(blocked_attention(query, key, value)) < 1.1 * distance(plain)


def test_long_sequences_use_the_kernel_of_torch():
    heads = LARGEST_PROBABILITIES // (1024 * 1024)
    query = torch.empty(1, 1, 1024, 1, dtype=torch.bfloat16)
    assert is_better_in_blocks(query.expand(1, heads, 1024, 64))
    assert not is_better_in_blocks(query.expand(1, heads + 1, 1024, 64))
