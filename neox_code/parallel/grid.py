"""The three parallel axes (tensor, data, pipeline) and the rank of this process on each axis.

Ranks are laid out with the tensor axis fastest, then data, then pipeline, the order of megatron-core and of DeepSpeed's
`PipeModelDataParallelTopology`. With pipeline 2, data 2, tensor 2:

                 stage 0              stage 1
    data 0    rank 0  rank 1      rank 4  rank 5
    data 1    rank 2  rank 3      rank 6  rank 7
              tensor0 tensor1     tensor0 tensor1
"""

import os
from dataclasses import dataclass

import torch
from torch.distributed import ProcessGroup

from neox_code.machine import read_processor_name
from neox_code.parallel.plain_layers import LayerMaker, PlainLayers

CPU = torch.device("cpu")
WHOLE_LAYERS = PlainLayers()


@dataclass(frozen=True)
class ParallelGrid:
    """Sizes and ranks of the axes, the device, and the process groups. `startup` builds it once for a distributed run.

    `layers` makes the layers that are divided over tensor ranks. Outside a distributed run it makes whole layers, the groups are
    None, and no collective is called.
    """

    pipeline_size: int = 1
    data_size: int = 1
    tensor_size: int = 1
    rank: int = 0
    device: torch.device = CPU
    layers: LayerMaker = WHOLE_LAYERS
    tensor_group: ProcessGroup | None = None
    data_group: ProcessGroup | None = None
    sequence_group: ProcessGroup | None = None
    """The tensor group, if each of its ranks holds a part of every sequence between divided layers (`sequence_parallel`)."""

    @property
    def world_size(self) -> int:
        return self.pipeline_size * self.data_size * self.tensor_size

    @property
    def tensor_rank(self) -> int:
        return self.rank % self.tensor_size

    @property
    def data_rank(self) -> int:
        return self.rank // self.tensor_size % self.data_size

    @property
    def pipeline_stage(self) -> int:
        return self.rank // (self.tensor_size * self.data_size)


def single_process_grid(device: torch.device | str = "cpu") -> ParallelGrid:
    """Return the grid of one process that communicates with no other: for generation, evaluation and tests.

    >>> single_process_grid().world_size, single_process_grid().tensor_group
    (1, None)
    """
    return ParallelGrid(device=torch.device(device))


def select_device(local_rank: int = 0) -> torch.device:
    """Return this rank's GPU, or the CPU on a machine without GPUs."""
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def read_device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of this machine's processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else read_processor_name()


def read_memory_bytes(device: torch.device) -> int:
    """Return the bytes of a GPU's memory. For a CPU return the bytes of this machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
