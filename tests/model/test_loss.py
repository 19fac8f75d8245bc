"""The divided, padded cross entropy against torch's."""

import pytest
import torch
from torch.nn import functional as F

from neox_code.model.loss import WeightedLoss, compute_token_losses, make_vocab_shard
from neox_code.parallel.grid import ParallelGrid, single_process_grid


def make_case(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = (3 * torch.randn(2, 300, 128, generator=generator)).to(dtype).requires_grad_()
    return logits, torch.randint(0, 100, (2, 300), generator=generator)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_loss_and_gradient_equal_those_of_torch_over_the_real_vocabulary(dtype, tolerance):
    logits, labels = make_case(dtype)
    losses = compute_token_losses(logits, labels, make_vocab_shard(100, 128, single_process_grid()))
    plain = logits.detach().float().requires_grad_()
    expected = F.cross_entropy(plain[..., :100].flatten(0, 1), labels.flatten(), reduction="none").view(2, 300)
    torch.testing.assert_close(losses, expected)
    weights = torch.rand(2, 300)
    (losses * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(logits.grad.float(), plain.grad, atol=tolerance, rtol=tolerance)
    assert logits.grad[..., 100:].abs().max() == 0


def test_the_gradient_of_a_confident_prediction_is_precise_in_bf16():
    logits = torch.zeros(1, 50, 128)
    labels = torch.arange(50)[None]
    logits[0, torch.arange(50), labels[0]] = 9 + torch.rand(50, generator=torch.Generator().manual_seed(1))
    rounded = logits.bfloat16().requires_grad_()
    compute_token_losses(rounded, labels, make_vocab_shard(100, 128, single_process_grid())).sum().backward()
    exact = rounded.detach().float().requires_grad_()
    F.cross_entropy(exact[..., :100].flatten(0, 1), labels.flatten(), reduction="sum").backward()
    at_label = (slice(None), torch.arange(50), labels[0])
    torch.testing.assert_close(rounded.grad[at_label].float(), exact.grad[at_label], atol=0, rtol=0.005)


def test_without_the_mask_padding_enters_the_softmax_as_in_gpt_neox():
    logits, labels = make_case(torch.float32)
    losses = compute_token_losses(logits, labels, make_vocab_shard(128, 128, single_process_grid()))
    torch.testing.assert_close(losses.flatten(), F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none"))


def test_positions_of_weight_zero_do_not_change_the_loss():
    logits, labels = make_case(torch.float32)
    weights = torch.zeros(2, 300)
    weights[1, 7:9] = 0.5
    expected = F.cross_entropy(logits[1, 7:9, :100], labels[1, 7:9])
    torch.testing.assert_close(WeightedLoss(make_vocab_shard(100, 128, single_process_grid()))(logits, (labels, weights)), expected)


def test_a_rank_with_only_padding_has_no_real_rows():
    assert make_vocab_shard(100, 384, ParallelGrid(tensor_size=3, rank=2)).real_rows == 0
