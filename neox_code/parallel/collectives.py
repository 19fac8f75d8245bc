"""Collectives that do nothing in a world of one."""

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, ReduceOp


def all_reduce(tensor: torch.Tensor, group: ProcessGroup | None, op: ReduceOp.RedOpType = ReduceOp.SUM) -> torch.Tensor:
    """Reduces `tensor` in place over `group`; returns it. No group, or a group of one: unchanged."""
    if group is not None and group.size() > 1:
        dist.all_reduce(tensor, op=op, group=group)
    return tensor


def barrier() -> None:
    """Waits until every rank is here."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def from_rank_zero(value: float, device: torch.device) -> float:
    """Return rank zero's value on every rank."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(tensor, src=0)
    return float(tensor.item())


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; every rank gets the same answer."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    value = torch.tensor([flag], dtype=torch.int32, device=device)
    dist.all_reduce(value, op=ReduceOp.MAX)
    return bool(value.item())
