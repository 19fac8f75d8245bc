"""What DeepSpeed imports and probes while it builds an engine: the server of `distributed_runs` does it once for all ranks."""

import deepspeed.module_inject.auto_ep_layer
import deepspeed.ops.triton_ops
import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
from deepspeed.ops import __compatible_ops__  # noqa: F401  (links a C program)
