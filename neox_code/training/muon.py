"""Muon: momentum whose update is orthogonalized, for the matrices of blocks; AdamW for the embedding, the head and vectors.

    optimizer = Muon(groups, forms, grid, lr=0.02, ...)      # groups with kind "muon" or "adamw"; forms: of the Muon matrices
    optimizer.step()

Keller Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the size of the update is that of AdamW's (Liu et al. 2025,
https://arxiv.org/abs/2502.16982), as `match_rms_adamw` of torch.optim.Muon:

    momentum = lerp(momentum, gradient, 1 - mu);  update = lerp(gradient, momentum, mu)             (Nesterov)
    weight = weight * (1 - lr * weight_decay) - lr * 0.2 * sqrt(max(rows, columns)) * orthogonalize(update)

It orthogonalizes in bf16, or with `precision: fp32` in fp32, which gives the same updates at every layout. Each data rank has an
equal part of the flat weights and momenta (ZeRO stage 1), and a part may begin inside a matrix. The ranks exchange the updates;
each orthogonalizes the matrices of which it has a part, so that a matrix on a border is computed twice. Tensor ranks exchange their
parts of a matrix, and each orthogonalizes the whole.

    update, flat        [ A A A A | B B B B B B | C C ]
    data ranks          |----- rank 0 ----|- rank 1 --|       rank 0 orthogonalizes A and B, rank 1 B and C
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from neox_code.config.model import ModelConfig
from neox_code.model.sharding import SHARDING, count_stacked_rows, get_sharding
from neox_code.parallel.collectives import gather_parts
from neox_code.parallel.emulated import is_emulated
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.scaled_optimizer import ScaledGradients

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic polynomial of a Newton-Schulz step: its slope at 0 is as large as its convergence allows."""

NEWTON_SCHULZ_STEPS = 5
ELEMENTS_AT_ONCE = 1 << 26
"""Maximum number of elements that are orthogonalized together (128 MiB in bf16)."""


def is_block_matrix(name: str) -> bool:
    """Return True for a weight of attention or of the feed-forward layer: a matrix that Muon updates.

    >>> is_block_matrix("sequential.2.mlp.dense_h_to_4h.weight"), is_block_matrix("sequential.0.word_embeddings.weight")
    (True, False)
    """
    return name.endswith(tuple(end for end, sharding in SHARDING.items() if not sharding.is_vocabulary and end.endswith("weight")))


@dataclass(frozen=True)
class MatrixForm:
    """The matrices in a parameter of this rank: stacked (queries, keys and values with shared heads; gate and input), or
    interleaved by head."""

    shape: tuple[int, int]
    dim: int
    """The dimension that is divided over the tensor ranks."""
    rows: tuple[int, ...]
    """Numbers of rows of the stacked matrices; with `heads` of each interleaved matrix."""
    heads: int = 0
    """Number of heads of queries, keys and values that are interleaved by head; 0 for stacked matrices."""

    @classmethod
    def from_name(cls, name: str, shape: Sequence[int], model: ModelConfig, tensor_size: int) -> "MatrixForm":
        """Return the form of a parameter by its name in a layer or in a whole model."""
        rows, columns = shape
        dim = get_sharding(name).dim
        assert dim is not None
        stacked = tuple(count // tensor_size for count in count_stacked_rows(name, model))
        if "query_key_value" in name and not stacked:
            return cls((rows, columns), dim, (rows // 3,) * 3, model.num_attention_heads // tensor_size)
        return cls((rows, columns), dim, stacked or (rows,))

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def split(self, parameter: torch.Tensor) -> list[torch.Tensor]:
        """Return the matrices in a parameter, [rows, columns] each."""
        if not self.heads:
            return list(parameter.split(self.rows))
        return list(parameter.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(1, 2))

    def join(self, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the parameter that consists of the matrices: the inverse of `split`."""
        if not self.heads:
            return torch.cat(list(matrices))
        return torch.stack(list(matrices)).unflatten(1, (self.heads, -1)).transpose(0, 1).flatten(0, 2)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Return matrices [M, R, C] with singular values near 1, and with the singular vectors and the dtype of those given.

    A CPU that emulates bf16 computes in fp32.
    """
    dtype = matrices.dtype
    matrices = matrices.float() if is_emulated(matrices) else matrices.clone()
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    if is_tall:
        matrices = matrices.mT
    matrices /= torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = matrices @ matrices.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        matrices = torch.baddbmm(matrices, polynomial, matrices, beta=a)
    return (matrices.mT if is_tall else matrices).to(dtype)


class Muon(ScaledGradients, torch.optim.AdamW):
    """The groups of kind "muon" have one fp32 share of flat weights, or on a single rank the matrices themselves."""

    def __init__(
        self,
        groups: list[dict],
        forms: Sequence[MatrixForm],
        grid: ParallelGrid,
        momentum: float,
        dtype: torch.dtype = torch.bfloat16,
        **adamw: Any,
    ):
        self.forms, self.grid, self.momentum, self.dtype = list(forms), grid, momentum, dtype
        super().__init__(groups, fused=True, **adamw)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step. Return the result of `closure` if it is given, else None."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if group["kind"] != "muon"]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["kind"] == "muon" and group["params"]:
                self.update_matrices(group)
        return loss

    def update_matrices(self, group: dict[str, Any]) -> None:
        """Update this rank's share of the matrices."""
        shares: list[torch.Tensor] = group["params"]
        kept = self.kept
        for share in shares:
            if not self.state[share]:
                self.state[share] |= {"momentum_buffer": torch.zeros_like(share), "step": torch.zeros((), device=share.device)}
            self.state[share]["step"] += kept
        parts = [self.advance_momentum(share, kept) for share in shares]
        flat = parts[0] if len(parts) == 1 else torch.cat(parts)
        updates = self.orthogonalize_share(flat).split([share.numel() for share in shares])
        lr = group["lr"] * kept
        for share, update in zip(shares, updates, strict=True):
            share.mul_(1 - lr * group["weight_decay"]).sub_(update.view_as(share) * lr)

    def advance_momentum(self, share: torch.Tensor, kept: Any) -> torch.Tensor:
        """Add a share's gradient to its momentum. Return the update before it is orthogonalized: flat, in `dtype`."""
        assert share.grad is not None
        gradient, momentum = self.unscale(share.grad), self.state[share]["momentum_buffer"]
        momentum.lerp_(gradient, (1 - self.momentum) * kept)
        return gradient.lerp(momentum, self.momentum).flatten().to(self.dtype)

    def orthogonalize_share(self, update: torch.Tensor) -> torch.Tensor:
        """Return the orthogonalized and scaled values of this rank's part of the flat updates: fp32 of the same size."""
        data_size = self.grid.data_size
        whole = gather_parts(update, self.grid.data_group) if data_size > 1 and self.grid.data_group is not None else update
        begin = self.grid.data_rank * update.numel()
        end, offset, found = begin + update.numel(), 0, []
        for form in self.forms:
            if offset < end and begin < offset + form.size:
                found.append((offset, form, form.split(whole[offset : offset + form.size].view(form.shape))))
            offset += form.size
        scaled = iter(self.orthogonalize_matrices([(matrix, form.dim) for _, form, matrices in found for matrix in matrices]))
        result = torch.zeros(update.numel(), device=update.device)
        for offset, form, matrices in found:
            values = form.join([next(scaled) for _ in matrices]).flatten()
            first, last = max(begin, offset), min(end, offset + form.size)
            result[first - begin : last - begin] = values[first - offset : last - offset]
        return result

    def orthogonalize_matrices(self, matrices: Sequence[tuple[torch.Tensor, int]]) -> list[torch.Tensor]:
        """Return the orthogonalized and scaled values of each matrix, of which this rank has a part divided along a dimension."""
        group = self.grid.tensor_group if self.grid.tensor_size > 1 else None
        results: dict[int, torch.Tensor] = {}
        for indices in batch_equal_shapes(matrices):
            stacked = torch.stack([matrices[index][0] for index in indices])
            dim = 1 + matrices[indices[0]][1]
            wide = stacked if group is None else gather_along(stacked, dim, group)
            scale = 0.2 * math.sqrt(max(wide.shape[1:]))
            wide = orthogonalize(wide)
            own = wide if group is None else wide.chunk(self.grid.tensor_size, dim)[self.grid.tensor_rank]
            results |= zip(indices, own.float() * scale, strict=True)
        return [results[index] for index in range(len(matrices))]


def batch_equal_shapes(matrices: Sequence[tuple[torch.Tensor, int]]) -> Iterable[list[int]]:
    """Yield lists of the indices of matrices that have one shape and one divided dimension, in an order that is the same on all
    tensor ranks."""

    def key(index: int) -> tuple[int, ...]:
        return *matrices[index][0].shape, matrices[index][1]

    for shape, equal in groupby(sorted(range(len(matrices)), key=key), key=key):
        indices, count = list(equal), max(1, ELEMENTS_AT_ONCE // (shape[0] * shape[1]))
        for begin in range(0, len(indices), count):
            yield indices[begin : begin + count]


def gather_along(part: torch.Tensor, dim: int, group: ProcessGroup) -> torch.Tensor:
    """Return the parts of all ranks of the group, joined along a dimension."""
    parts = [torch.empty_like(part) for _ in range(group.size())]
    dist.all_gather(parts, part, group=group)
    return torch.cat(parts, dim)
