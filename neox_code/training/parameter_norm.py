"""The norm of the weights, which is logged beside that of the gradient."""

import torch
import torch.distributed as dist
from torch import nn

from neox_code.model.sharding import get_sharding
from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.grid import ParallelGrid


def compute_parameter_norm(module: nn.Module, grid: ParallelGrid) -> float | None:
    """Return the L2 norm of all weights of the model, each counted once. None with ZeRO stage 3, which divides the weights.

    Call it on every rank.
    """
    total = torch.zeros((), dtype=torch.float64, device=grid.device)
    for name, parameter in module.named_parameters():
        if hasattr(parameter, "ds_id"):
            return None
        is_copy = getattr(parameter, "ds_pipe_replicated", False) or (get_sharding(name).dim is None and grid.tensor_rank > 0)
        if grid.data_rank == 0 and not is_copy:
            total += torch.linalg.vector_norm(parameter.detach(), dtype=torch.float32).double().square()
    return float(all_reduce(total, dist.group.WORLD if grid.world_size > 1 else None).sqrt())
