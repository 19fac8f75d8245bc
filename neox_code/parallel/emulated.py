"""Matrix products on a CPU that has no instructions for bf16.

Such a CPU emulates a bf16 product, which takes about four times as long as the product of the same numbers in fp32. Both have bf16
inputs, fp32 accumulation and one rounding at the end; only the order of the sums differs.
"""

import torch

from neox_code.machine import cpu_computes_bf16

FEW_ROWS = 8
"""A product with at most this number of rows stays in bf16: reading its weights takes most of the time, also for an fp32 copy."""


def is_emulated(tensor: torch.Tensor) -> bool:
    """Return True if this device has no instructions for products of this tensor's type."""
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and not cpu_computes_bf16()


def is_better_in_fp32(input_: torch.Tensor) -> bool:
    """Return True if a product of `input_` [..., K] with a weight is faster when computed in fp32 and rounded."""
    return is_emulated(input_) and input_.numel() > FEW_ROWS * input_.shape[-1]
