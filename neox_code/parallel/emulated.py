"""Matrix products on a CPU that has no instructions for bf16.

There a bf16 product is emulated, and takes about four times as long as one of the same numbers in fp32. The result is the same but
for the order of sums: bf16 inputs, fp32 accumulation, one rounding at the end.
"""

import torch

from neox_code.machine import cpu_computes_bf16

FEW_ROWS = 8
"""Up to so many rows a product reads weights and computes little: there the copy to fp32 costs more than it gains."""


def is_emulated(tensor: torch.Tensor) -> bool:
    """Whether this device computes products of this tensor's type by other means."""
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and not cpu_computes_bf16()


def is_better_in_fp32(input_: torch.Tensor) -> bool:
    """Whether a product of `input_` [..., K] with a weight is to be computed in fp32 and rounded."""
    return is_emulated(input_) and input_.numel() > FEW_ROWS * input_.shape[-1]
