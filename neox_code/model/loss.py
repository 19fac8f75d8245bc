"""Cross entropy over a vocabulary that is divided over tensor ranks, and padded.

Shape letters: B batch, S sequence, V rows of the padded vocabulary on this tensor rank, P positions (B * S).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed import ProcessGroup, ReduceOp

from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid

ROWS_AT_ONCE = 256
"""Number of positions whose fp32 scores are computed together, few enough to fit the CPU's cache and to need little GPU memory."""


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


class VocabParallelCrossEntropy(torch.autograd.Function):
    """Cross entropy of each position. The forward pass also computes the gradient, because loss and gradient need the same
    exponentials.

    The softmax is computed in fp32 for logits of any type. The gradient is softmax minus one-hot, and 0 at padding. It is rounded
    to the logits' type after the subtraction, because the two terms are nearly equal for a confident model.
    """

    @staticmethod
    def forward(ctx: Any, logits_PV: torch.Tensor, labels_P: torch.Tensor, shard: VocabShard) -> torch.Tensor:
        """Return the fp32 loss of each position in nats [P], the same on every tensor rank."""
        positions = logits_PV.shape[0]
        needs_gradient = ctx.needs_input_grad[0]
        gradient_PV = torch.empty_like(logits_PV) if needs_gradient else None
        losses = torch.empty(positions, dtype=torch.float32, device=logits_PV.device)
        local = labels_P - shard.first
        is_here = (local >= 0) & (local < shard.rows)
        column = local.clamp(0, shard.rows - 1)
        divided = shard.group is not None and shard.group.size() > 1
        step = positions if divided else ROWS_AT_ONCE
        for begin in range(0, positions, step):
            rows = slice(begin, begin + step)
            scores = logits_PV[rows, : shard.real_rows]
            highest = scores.amax(-1).float() if shard.real_rows else torch.full_like(losses[rows], -torch.inf)
            highest = all_reduce(highest, shard.group, ReduceOp.MAX)
            target = logits_PV[rows].gather(-1, column[rows, None]).squeeze(-1).float().masked_fill(~is_here[rows], 0)
            target = all_reduce(target, shard.group)
            exponentials = torch.sub(scores, highest[:, None]).exp_()
            total = all_reduce(exponentials.sum(-1), shard.group)
            losses[rows] = total.log() + highest - target
            if gradient_PV is not None and shard.real_rows:
                probabilities = exponentials.mul_(total.reciprocal_()[:, None])
                target_column = column[rows, None].clamp_max(shard.real_rows - 1)
                probabilities.scatter_add_(-1, target_column, -is_here[rows, None].float())
                gradient_PV[rows, : shard.real_rows] = probabilities
        if gradient_PV is not None:
            gradient_PV[:, shard.real_rows :] = 0
            ctx.save_for_backward(gradient_PV)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream_P: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient_PV,) = ctx.saved_tensors
        return gradient_PV.mul_(upstream_P[:, None].to(gradient_PV.dtype)), None, None


def compute_token_losses(logits_BSV: torch.Tensor, labels_BS: torch.Tensor, shard: VocabShard) -> torch.Tensor:
    """Return the negative log-likelihood of each label in nats: fp32, [B, S], the same on every tensor rank."""
    losses_P = VocabParallelCrossEntropy.apply(logits_BSV.flatten(0, 1), labels_BS.reshape(-1), shard)
    return losses_P.view(labels_BS.shape)


@dataclass(frozen=True)
class WeightedLoss:
    """The training loss: the weighted sum of the tokens' losses, with fp32 weights (see `training.token_weights`)."""

    shard: VocabShard

    def __call__(self, logits_BSV: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        labels_BS, weights_BS = labels
        return (compute_token_losses(logits_BSV, labels_BS, self.shard) * weights_BS).sum()
