"""Compute the norm of a ZeRO partition's gradients in one pass, without fp64 copies.

    replace_norm_methods(engine.optimizer)

DeepSpeed 0.19 reads every gradient two more times: to make an fp64 copy, and to find non-finite values, which also make the norm
non-finite. On a CPU this takes a twentieth of a step.
"""

from collections.abc import Sequence
from types import MethodType

import torch
import torch.distributed as dist
from deepspeed.runtime.utils import is_model_parallel_parameter
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import nn

from neox_code.parallel.collectives import all_reduce
from neox_code.parallel.native_kernels import is_native, sum_squares

ELEMENTS_AT_ONCE = 1 << 17
ELEMENTS_OF_A_SUM = 1 << 10
"""Number of squares that are summed in fp32. These sums are then added in fp64."""


def replace_norm_methods(optimizer: DeepSpeedZeroOptimizer) -> None:
    """Replace the optimizer's methods for the norm and for non-finite values. A step with a non-finite norm is still skipped."""
    optimizer.get_grad_norm_direct = MethodType(compute_partition_norm, optimizer)
    optimizer.has_overflow_partitioned_grads_serial = lambda: torch.zeros(1, dtype=torch.bool, device=optimizer.device)


def compute_partition_norm(
    optimizer: DeepSpeedZeroOptimizer, gradients: Sequence[torch.Tensor], parameters: Sequence[nn.Parameter], norm_type: int = 2
) -> torch.Tensor:
    """Return the L2 norm of the gradients over all ranks, an fp32 scalar; -1 if it is not finite. Every parameter counts once."""
    total = torch.zeros((), dtype=torch.float64, device=optimizer.device)
    own = (gradient for gradient in gradients if not getattr(gradient, "_zero_padding", False))
    for gradient, parameter in zip(own, parameters, strict=False):
        is_copy = getattr(parameter, "ds_pipe_replicated", False)
        if not is_copy and (is_model_parallel_parameter(parameter) or optimizer.model_parallel_rank == 0):
            total += compute_sum_of_squares(gradient)
    all_reduce(total, optimizer.dp_process_group)
    optimizer._model_parallel_all_reduce(tensor=total, op=dist.ReduceOp.SUM)
    norm = total.sqrt().float()
    return torch.where(norm.isfinite(), norm, -torch.ones_like(norm))


def compute_sum_of_squares(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of squares as an fp64 scalar: `ELEMENTS_OF_A_SUM` squares at a time are summed in fp32, the sums in fp64.

    >>> compute_sum_of_squares(torch.full((2, 1024), 2.0))
    tensor(8192., dtype=torch.float64)
    """
    if is_native(tensor, (torch.bfloat16, torch.float32)):
        return sum_squares(tensor)
    total = torch.zeros((), dtype=torch.float64, device=tensor.device)
    for block in tensor.detach().reshape(-1).split(ELEMENTS_AT_ONCE):
        block = block.float()
        rows = block.numel() // ELEMENTS_OF_A_SUM
        whole, rest = block.split([rows * ELEMENTS_OF_A_SUM, block.numel() - rows * ELEMENTS_OF_A_SUM])
        norms = torch.linalg.vector_norm(whole.view(rows, ELEMENTS_OF_A_SUM), dim=1)
        total += norms.double().square().sum() + torch.linalg.vector_norm(rest).double().square()
    return total
