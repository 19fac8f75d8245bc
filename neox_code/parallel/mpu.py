"""megatron-core's process groups under the names that DeepSpeed's engine without a pipeline uses."""

from typing import Any

import torch.distributed as dist

import neox_code.parallel.megatron_core  # noqa: F401 - imports megatron.core first

# isort: split
from megatron.core import parallel_state


class ModelParallelUnit:
    """megatron-core's parallel state, with DeepSpeed's names for three of its methods:
    `deepspeed.initialize(mpu=ModelParallelUnit())`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(parallel_state, name)

    def get_model_parallel_rank(self) -> int:
        return dist.get_rank(parallel_state.get_model_parallel_group())

    def get_model_parallel_world_size(self) -> int:
        return dist.get_world_size(parallel_state.get_model_parallel_group())

    def get_data_parallel_group_ranks(self) -> list[int]:
        return dist.get_process_group_ranks(parallel_state.get_data_parallel_group())
