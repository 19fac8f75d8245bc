"""Matrix products on a CPU that has no instructions for bf16.

Such a CPU emulates bf16, which takes about four times as long as the same product in fp32. Both ways have bf16 inputs, fp32
accumulation and one rounding at the end. Only the order of the sums differs.
"""

import torch

from neox_code.machine import cpu_computes_bf16

FEW_ROWS = 8
"""Maximum number of rows of a product that is computed in bf16 on every CPU. Reading the weights takes most of its time, and an
fp32 copy would have to read them too."""


def is_emulated(tensor: torch.Tensor) -> bool:
    """Return True if this device has no instructions for matrix products of the tensor's dtype."""
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and not cpu_computes_bf16()


def is_faster_in_fp32(input_: torch.Tensor) -> bool:
    """Return True if a product of `input_` [..., K] with a weight is faster when computed in fp32 and rounded."""
    return is_emulated(input_) and input_.numel() > FEW_ROWS * input_.shape[-1]
