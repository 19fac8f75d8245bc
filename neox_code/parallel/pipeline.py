"""The door to DeepSpeed's pipeline: a list of layers becomes a PipelineModule on this rank's stage.

`prepare_deepspeed` comes first in every process that uses DeepSpeed: it hands it the process group that `startup` has made.
"""

import io
import logging
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Protocol

import deepspeed
from deepspeed.pipe import LayerSpec, PipelineModule, TiedLayerSpec
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from torch import nn
from torch.utils.checkpoint import checkpoint

from neox_code.config.parallelism import ParallelismConfig
from neox_code.logs import get_logger
from neox_code.parallel.grid import ParallelGrid

log = get_logger(__name__)


class LayerEntry(Protocol):
    """What a layer list is made of; see model.gpt.Layer."""

    @property
    def module(self) -> type[nn.Module] | None: ...
    @property
    def function(self) -> Callable | None: ...
    @property
    def tied(self) -> str | None: ...
    @property
    def forward(self) -> Callable | None: ...

    def build(self) -> nn.Module: ...


def prepare_deepspeed(grid: ParallelGrid) -> None:
    """Makes DeepSpeed use the process group that exists.

    On the CPU its shared-memory collectives are left out: they would be compiled for minutes at the first start.
    Its own log speaks of warnings only.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if grid.device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False)


class SeededSpec(LayerSpec):
    """A layer that builds itself, so that its initial values do not depend on the stage it lands on."""

    def __init__(self, entry: LayerEntry):
        super().__init__(entry.module)
        self.entry = entry

    def build(self, log: bool = False) -> nn.Module:
        return self.entry.build()


class SeededTiedSpec(TiedLayerSpec):
    """The same for a layer that several places share."""

    def __init__(self, entry: LayerEntry):
        super().__init__(entry.tied, entry.module, forward_fn=entry.forward, tied_weight_attr=["word_embeddings.weight"])
        self.entry = entry

    def build(self, log: bool = False) -> nn.Module:
        return self.entry.build()


def build_pipeline(
    layers: Sequence[LayerEntry], loss: Callable, parallelism: ParallelismConfig, grid: ParallelGrid
) -> PipelineModule:
    """This rank's stage of the pipeline; `loss(outputs, labels)` runs on the last stage."""
    topology = PipeModelDataParallelTopology(num_pp=grid.pipeline_size, num_mp=grid.tensor_size, num_dp=grid.data_size)
    with redirect_stdout(io.StringIO()) as printed:
        module = PipelineModule(
            layers=[spec(entry) for entry in layers],
            loss_fn=loss,
            topology=topology,
            partition_method=parallelism.pipe_partition_method,
            activation_checkpoint_interval=parallelism.checkpoint_num_layers if parallelism.checkpoint_activations else 0,
            activation_checkpoint_func=partial(checkpoint, use_reentrant=False),
            checkpointable_layers=["TransformerBlock"],
        )
    log.debug("%s", printed.getvalue())
    return module


def spec(entry: LayerEntry) -> LayerSpec | Callable:
    if entry.function is not None:
        return entry.function
    return SeededTiedSpec(entry) if entry.tied else SeededSpec(entry)
