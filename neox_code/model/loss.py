"""Cross entropy over a vocabulary that is divided over tensor ranks, and padded.

    loss = WeightedLoss(shard)((hidden_BSH, weight_VH), (labels_BS, weights_BS))      # training: the head and its loss in chunks
    losses_BS = compute_token_losses(logits_BSV, labels_BS, shard)                    # evaluation, without gradients

In training the logits of all positions are never in memory together: the product with the head's weight, the loss and both
gradients are computed for `count_rows_at_once` positions at a time. torch's own `linear_cross_entropy` has no weight per token, no
divided vocabulary and no masked rows, and its chunks took 20 times as long on the CPU (torch 2.13).

Shape letters: B batch, S sequence, H hidden, V rows of the padded vocabulary on this tensor rank, P positions (B * S), R positions
of a chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed import ProcessGroup, ReduceOp
from torch.nn import functional as F

from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.emulated import is_emulated
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.native_kernels import is_native, replace_by_gradients, scale, sum_exponentials, transpose

CHUNKS_OF_A_SUM = 4
"""Number of chunks whose gradients of the head's weight are added in the weight's type. These sums are added in fp32."""

ROWS_OF_A_BLOCK = 8192
"""Number of rows of a gradient of which an fp32 copy is made."""

HeadInput = tuple[torch.Tensor, torch.Tensor]
"""The hidden state [B, S, H] before the head, and the head's weight [V, H]."""


def count_rows_at_once(device: torch.device) -> int:
    """Return the number of positions of a chunk: on a CPU, its fp32 scores nearly fit the cache; on a GPU, it fills the device."""
    return 256 if device.type == "cpu" else 2048


@dataclass(frozen=True)
class VocabShard:
    """A tensor rank's part of the vocabulary: `rows` rows from row `first` on. The first `real_rows` of them enter the softmax."""

    first: int
    rows: int
    real_rows: int
    group: ProcessGroup | None


def make_vocab_shard(scored_rows: int, padded_vocab_size: int, grid: ParallelGrid) -> VocabShard:
    """Return one rank's part of the vocabulary. Rows of the vocabulary from `scored_rows` on never enter the softmax.

    >>> from neox_code.parallel.grid import ParallelGrid
    >>> make_vocab_shard(50257, 50432, ParallelGrid(tensor_size=2, rank=1))
    VocabShard(first=25216, rows=25216, real_rows=25041, group=None)
    """
    rows = padded_vocab_size // grid.tensor_size
    first = grid.tensor_rank * rows
    return VocabShard(first, rows, min(max(scored_rows - first, 0), rows), grid.tensor_group)


def score_chunk(
    logits_RV: torch.Tensor,
    labels_R: torch.Tensor,
    shard: VocabShard,
    factors_R: torch.Tensor | None = None,
    z_loss_coefficient: float = 0.0,
) -> torch.Tensor:
    """Return the fp32 cross entropy of each position in nats [R], the same on every tensor rank.

    With `factors_R` replace the logits by the gradient of factor * (cross entropy + coefficient * log(Z)^2), which is
    factor * ((1 + 2 coefficient log(Z)) softmax - one-hot), and 0 at padding. The softmax is computed in fp32 for logits of any
    type. The gradient is rounded to the logits' type after the subtraction, because the two terms are nearly equal for a confident
    model.
    """
    local_R = labels_R - shard.first
    is_here_R = (local_R >= 0) & (local_R < shard.rows)
    column_R1 = local_R.clamp(0, shard.rows - 1)[:, None]
    target = logits_RV.gather(-1, column_R1).squeeze(-1).float().masked_fill(~is_here_R, 0)
    if shard.real_rows and is_native(logits_RV):
        own_highest, sums = sum_exponentials(logits_RV, shard.real_rows)
        highest = all_reduce(own_highest.clone(), shard.group, ReduceOp.MAX)
        target, total = all_reduce(torch.stack([target, sums * torch.exp(own_highest - highest)]), shard.group)
        log_total = total.log() + highest
        if factors_R is not None:
            columns_R = local_R.masked_fill(~is_here_R, -1)
            total_of_softmax = total / (1 + 2 * z_loss_coefficient * log_total) if z_loss_coefficient else total
            replace_by_gradients(logits_RV, shard.real_rows, highest, total_of_softmax, factors_R, columns_R)
        return log_total - target
    scores = logits_RV[:, : shard.real_rows]
    highest = scores.amax(-1).float() if shard.real_rows else logits_RV.new_full(labels_R.shape, -torch.inf, dtype=torch.float32)
    highest = all_reduce(highest, shard.group, ReduceOp.MAX)
    exponentials = torch.sub(scores, highest[:, None]).exp_()
    target, total = all_reduce(torch.stack([target, exponentials.sum(-1)]), shard.group)
    log_total = total.log() + highest
    if factors_R is not None:
        if shard.real_rows:
            of_softmax_R = factors_R * (1 + 2 * z_loss_coefficient * log_total) if z_loss_coefficient else factors_R
            exponentials.mul_((of_softmax_R / total)[:, None])
            exponentials.scatter_add_(-1, column_R1.clamp_max(shard.real_rows - 1), -(is_here_R * factors_R)[:, None])
            scores.copy_(exponentials)
        logits_RV[:, shard.real_rows :] = 0
    return log_total - target


def compute_token_losses(logits_BSV: torch.Tensor, labels_BS: torch.Tensor, shard: VocabShard) -> torch.Tensor:
    """Return the negative log-likelihood of each label in nats: fp32, [B, S]. It has no gradient."""
    step = count_rows_at_once(logits_BSV.device)
    chunks = zip(logits_BSV.detach().flatten(0, 1).split(step), labels_BS.reshape(-1).split(step), strict=True)
    return torch.cat([score_chunk(logits_RV, labels_R, shard) for logits_RV, labels_R in chunks]).view(labels_BS.shape)


class HeadWithLoss(torch.autograd.Function):
    """hidden [P, H], the head's weight [V, H], labels and fp32 weights of the positions [P] -> the weighted sum of their losses.

    The forward pass also computes the gradients, except for the factor that only the backward pass receives. Rows of gradients are
    multiplied by the position's share of the greatest weight, so that fp16 does not underflow. The gradient of `hidden` is this
    tensor rank's part; the caller sums it over the ranks. With `z_loss_coefficient` the gradients are those of the loss with
    coefficient * log(Z)^2 added at each position, and the result is the loss without it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_PH: torch.Tensor,
        weight_VH: torch.Tensor,
        labels_P: torch.Tensor,
        weights_P: torch.Tensor,
        shard: VocabShard,
        z_loss_coefficient: float,
    ) -> torch.Tensor:
        """Return the weighted sum, an fp32 scalar that is the same on every tensor rank; keep the gradients that are needed."""
        needs_hidden, needs_weight, *_ = ctx.needs_input_grad
        weight = weight_VH.float() if is_emulated(weight_VH) else weight_VH
        hidden = hidden_PH.to(weight.dtype)
        greatest = weights_P.max().clamp_min(torch.finfo(torch.float32).tiny)
        factors_P = weights_P / greatest if needs_hidden or needs_weight else None
        hidden_gradient = torch.empty_like(hidden) if needs_hidden else None
        weight_gradient = None
        losses_P = torch.empty_like(weights_P)
        step, end = count_rows_at_once(hidden.device), len(labels_P)
        for begin_of_sum in range(0, end, step * CHUNKS_OF_A_SUM):
            part = None
            for begin in range(begin_of_sum, min(begin_of_sum + step * CHUNKS_OF_A_SUM, end), step):
                rows = slice(begin, begin + step)
                logits_RV = F.linear(hidden[rows], weight)
                factors_R = None if factors_P is None else factors_P[rows]
                losses_P[rows] = score_chunk(logits_RV, labels_P[rows], shard, factors_R, z_loss_coefficient)
                if hidden_gradient is not None:
                    torch.mm(logits_RV, weight, out=hidden_gradient[rows])
                if needs_weight:
                    turned_VR = transpose(logits_RV, False)[0] if is_native(logits_RV) else logits_RV.t()
                    part = turned_VR @ hidden[rows] if part is None else part.addmm_(turned_VR, hidden[rows])
            weight_gradient = part if weight_gradient is None or part is None else weight_gradient.float().add_(part)
        ctx.save_for_backward(greatest, hidden_gradient, weight_gradient)
        ctx.dtype = weight_VH.dtype
        return (losses_P * weights_P).sum()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None, None]:
        greatest, *gradients = ctx.saved_tensors
        hidden, weight = (
            None if gradient is None else multiply_in_place(gradient, upstream * greatest).to(ctx.dtype) for gradient in gradients
        )
        return hidden, weight, None, None, None, None


def multiply_in_place(matrix: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiply the matrix by an fp32 scalar, which `mul_` would first round to the matrix's type. Return the matrix."""
    if is_native(matrix):
        scale(matrix, factor.float())
        return matrix
    for block in matrix.split(ROWS_OF_A_BLOCK):
        block.copy_(block * factor[None])
    return matrix


@dataclass(frozen=True)
class WeightedLoss:
    """The training loss: the weighted sum of the tokens' losses, with fp32 weights (see `training.token_weights`). For
    `z_loss_coefficient` see HeadWithLoss."""

    shard: VocabShard
    z_loss_coefficient: float = 0.0

    def __call__(self, head_input: HeadInput, labels: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        hidden_BSH, weight_VH = head_input
        labels_P, weights_P = (tensor_BS.reshape(-1) for tensor_BS in labels)
        return HeadWithLoss.apply(hidden_BSH.flatten(0, 1), weight_VH, labels_P, weights_P, self.shard, self.z_loss_coefficient)
