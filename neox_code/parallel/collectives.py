"""Collective operations over ranks; with a single rank they communicate nothing."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, ReduceOp

from neox_code.errors import NeoXError

T = TypeVar("T")


def all_reduce(tensor: torch.Tensor, group: ProcessGroup | None, op: ReduceOp.RedOpType = ReduceOp.SUM) -> torch.Tensor:
    """Reduce `tensor` in place over `group` and return it. Without a group, or in a group of one rank, the tensor stays
    unchanged."""
    if group is not None and group.size() > 1:
        dist.all_reduce(tensor, op=op, group=group)
    return tensor


class SumOfGradients(torch.autograd.Function):
    """Identity function. Its backward pass sums the gradients over the ranks of a group."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return all_reduce(gradient.float(), ctx.group).to(gradient.dtype), None


def sum_gradients(parameter: torch.Tensor, group: ProcessGroup | None) -> torch.Tensor:
    """Return the parameter, with its gradient summed over `group`: each rank applies the parameter to another part of a tensor."""
    return parameter if group is None or group.size() == 1 else SumOfGradients.apply(parameter, group)


class SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over the ranks of a group. All ranks continue with the whole, so each has its gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
        return all_reduce(tensor.to(torch.float32, copy=True), group).to(tensor.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def gather_parts(part: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """Return the parts of all ranks of the group, one below the other: [S / ranks, ...] -> [S, ...]."""
    whole = part.new_empty((part.shape[0] * group.size(), *part.shape[1:]))
    dist.all_gather_into_tensor(whole, part.contiguous(), group=group)
    return whole


def sum_into_parts(whole: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """Return this rank's part of the sum over the ranks of the group: [S, ...] -> [S / ranks, ...]."""
    part = whole.new_empty((whole.shape[0] // group.size(), *whole.shape[1:]))
    dist.reduce_scatter_tensor(part, whole.contiguous(), group=group)
    return part


class GatherParts(torch.autograd.Function):
    """`gather_parts`, where each rank goes on to compute another part of the result: the gradients are summed into parts."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return gather_parts(part, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return sum_into_parts(gradient, ctx.group), None


class SumIntoParts(torch.autograd.Function):
    """`sum_into_parts`; the backward pass gathers the gradients of the parts."""

    @staticmethod
    def forward(ctx: Any, whole: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return sum_into_parts(whole, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gather_parts(gradient, ctx.group), None


class TakePart(torch.autograd.Function):
    """This rank's part of a tensor that all ranks hold, [S, ...] -> [S / ranks, ...]; the backward pass gathers the gradients."""

    @staticmethod
    def forward(ctx: Any, whole: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return whole.chunk(group.size())[group.rank()].contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gather_parts(gradient, ctx.group), None


def barrier() -> None:
    """Wait until every rank has called this function."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def broadcast_from_rank_zero(value: float) -> float:
    """Return the value of rank 0 on every rank."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64)  # over gloo: the host does not wait for its GPU
    dist.broadcast(tensor, src=0)
    return float(tensor.item())


def is_true_on_any_rank(flag: bool) -> bool:
    """Return True on every rank if the flag is set on at least one rank."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    value = torch.tensor([flag], dtype=torch.int32)  # over gloo
    dist.all_reduce(value, op=ReduceOp.MAX)
    return bool(value.item())


def run_on_rank_zero(make: Callable[[], T]) -> T:
    """Call `make` on rank 0 and return its result on every rank. A NeoXError or OSError from `make` is raised on every rank."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return make()
    box: list = [None]
    if dist.get_rank() == 0:
        try:
            box = [(make(), None)]
        except (NeoXError, OSError) as error:
            box = [(None, error)]
    dist.broadcast_object_list(box)
    result, raised = box[0]
    if raised is not None:
        raise raised
    return result
