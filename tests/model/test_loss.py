"""The head and its loss in chunks, over a padded vocabulary, against torch's."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from neox_code.model.loss import WeightedLoss, compute_token_losses, make_vocab_shard, score_chunk
from neox_code.parallel.grid import ParallelGrid, single_process_grid

SHARD = make_vocab_shard(100, 128, single_process_grid())
BATCH, SEQUENCE = 2, 700  # 1,400 positions are more than four chunks, so that two sums of the weight's gradient are added


def make_case(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return hidden state, head's weight, labels, and weights of which a third are 0."""
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(BATCH, SEQUENCE, 32, generator=generator).to(dtype).requires_grad_()
    weight = (0.5 * torch.randn(128, 32, generator=generator)).to(dtype).requires_grad_()
    weights = torch.rand(BATCH, SEQUENCE, generator=generator) / 1000
    return hidden, weight, torch.randint(0, 100, (BATCH, SEQUENCE), generator=generator), weights * (weights > 1 / 3000)


def compute_plainly(hidden, weight, labels, rows=100):
    """Return torch's loss of each position, [B, S], from logits of fp32."""
    return F.cross_entropy(
        F.linear(hidden.float(), weight.float())[..., :rows].flatten(0, 1), labels.flatten(), reduction="none"
    ).view(labels.shape)


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_loss_and_gradients_equal_those_of_torch_over_the_real_vocabulary(dtype, tolerance, z_loss):
    """With z-loss the gradients are those of the sum, and the loss is the cross entropy alone."""
    hidden, weight, labels, weights = make_case(dtype)
    loss = WeightedLoss(SHARD, z_loss)((hidden, weight), (labels, weights))
    (3 * loss).backward()
    plain = [tensor.detach().float().requires_grad_() for tensor in (hidden, weight)]
    expected = (compute_plainly(*plain, labels) * weights).sum()
    log_totals = F.linear(*plain)[..., :100].logsumexp(-1)
    (3 * (expected + z_loss * (log_totals.square() * weights).sum())).backward()
    torch.testing.assert_close(loss, expected, atol=0, rtol=tolerance / 10)
    for ours, theirs in zip((hidden, weight), plain, strict=True):
        assert ours.grad.dtype == dtype
        assert (ours.grad - theirs.grad).norm() < tolerance * theirs.grad.norm()
    assert weight.grad[100:].abs().max() == 0
    assert hidden.grad[weights == 0].abs().max() == 0


def test_a_frozen_head_passes_its_gradient_on():
    hidden, weight, labels, weights = make_case(torch.float32)
    (expected,) = torch.autograd.grad((compute_plainly(hidden, weight, labels) * weights).sum(), hidden)
    WeightedLoss(SHARD)((hidden, weight.detach()), (labels, weights)).backward()
    torch.testing.assert_close(hidden.grad, expected, atol=1e-8, rtol=1e-4)


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements of a tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        output = function(*arguments, **(keywords or {}))
        for tensor in output if isinstance(output, tuple | list) else [output]:
            self.elements = max(self.elements, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return output


def test_the_logits_of_all_positions_are_never_in_memory_together():
    hidden, weight, labels, weights = make_case(torch.bfloat16)
    with LargestTensor() as whole:
        (compute_plainly(hidden, weight, labels) * weights).sum().backward()
    assert whole.elements == BATCH * SEQUENCE * 128
    with LargestTensor() as chunked:
        WeightedLoss(SHARD)((hidden, weight), (labels, weights)).backward()
    assert chunked.elements < BATCH * SEQUENCE * 128 / 3


def test_the_gradient_of_a_confident_prediction_is_precise_in_bf16():
    labels = torch.arange(50)
    logits = torch.zeros(50, 128)
    logits[labels, labels] = 9 + torch.rand(50, generator=torch.Generator().manual_seed(1))
    rounded = logits.bfloat16()
    exact = rounded.float().requires_grad_()
    F.cross_entropy(exact[:, :100], labels, reduction="sum").backward()
    score_chunk(rounded, labels, SHARD, torch.ones(50))
    torch.testing.assert_close(rounded[labels, labels].float(), exact.grad[labels, labels], atol=0, rtol=0.005)


@pytest.mark.parametrize("rows", [100, 128])
def test_the_mask_decides_if_padding_enters_the_softmax(rows):
    hidden, weight, labels, _ = make_case(torch.float32)
    losses = compute_token_losses(F.linear(hidden, weight), labels, make_vocab_shard(rows, 128, single_process_grid()))
    torch.testing.assert_close(losses, compute_plainly(hidden, weight, labels, rows))


def test_a_rank_with_only_padding_has_no_real_rows():
    assert make_vocab_shard(100, 384, ParallelGrid(tensor_size=3, rank=2)).real_rows == 0
