"""DeepSpeed's pipeline: a list of layers becomes a PipelineModule with the layers of this rank's stage.

Every process that uses DeepSpeed first calls `prepare_deepspeed`, so that DeepSpeed uses the process group made by `startup`.
"""

import io
import logging
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any, Protocol

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
    """Interface of an entry in a model's list of layers; model.gpt.Layer implements it."""

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
    """Make DeepSpeed use the existing process group, and log only warnings.

    On the CPU its shared-memory collectives are disabled: compiling them takes minutes at the first start.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if grid.device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False)


class SeededSpec(LayerSpec):
    """DeepSpeed's specification of a layer. The list's entry builds the layer, so initial values do not depend on the stage."""

    def __init__(self, entry: LayerEntry):
        super().__init__(entry.module)
        self.entry = entry

    def build(self, log: bool = False) -> nn.Module:
        return self.entry.build()


class SeededTiedSpec(TiedLayerSpec):
    """DeepSpeed's specification of a layer that several entries share (the tied embedding), built as in `SeededSpec`."""

    def __init__(self, entry: LayerEntry):
        super().__init__(entry.tied, entry.module, forward_fn=entry.forward, tied_weight_attr=["word_embeddings.weight"])
        self.entry = entry

    def build(self, log: bool = False) -> nn.Module:
        return self.entry.build()


class StageInterface(Protocol):
    """Interface of what stages send to each other; model.form.StageJoint implements it."""

    def join(self, state: Any) -> Any:
        """Return what a stage sends, with one tensor that has gradients, from what its last layer returned."""
        ...

    def split(self, state: Any) -> Any:
        """Return what the next stage's first layer receives; the inverse of `join`."""
        ...


class JoinedPipeline(PipelineModule):
    """A stage whose layers pass several tensors with gradients. DeepSpeed's engine would run one backward pass for each of them."""

    def __init__(self, joint: StageInterface, **keywords: Any):
        super().__init__(**keywords)
        self.joint = joint

    def forward(self, forward_input: Any) -> Any:
        output = super().forward(forward_input if self.stage_id == 0 else self.joint.split(forward_input))
        return output if self.stage_id == self.num_stages - 1 else self.joint.join(output)


def build_pipeline(
    layers: Sequence[LayerEntry], loss: Callable, parallelism: ParallelismConfig, grid: ParallelGrid, joint: StageInterface
) -> PipelineModule:
    """Return this rank's stage of the pipeline; `loss(outputs, labels)` runs on the last stage."""
    topology = PipeModelDataParallelTopology(num_pp=grid.pipeline_size, num_mp=grid.tensor_size, num_dp=grid.data_size)
    with redirect_stdout(io.StringIO()) as printed:
        module = JoinedPipeline(
            joint,
            layers=[make_spec(entry) for entry in layers],
            loss_fn=loss,
            topology=topology,
            partition_method=parallelism.pipe_partition_method,
            activation_checkpoint_interval=parallelism.checkpoint_num_layers if parallelism.recomputes_blocks else 0,
            activation_checkpoint_func=partial(checkpoint, use_reentrant=False),
            checkpointable_layers=["TransformerBlock"],
        )
    log.debug("%s", printed.getvalue())
    return module


def make_spec(entry: LayerEntry) -> LayerSpec | Callable:
    if entry.function is not None:
        return entry.function
    return SeededTiedSpec(entry) if entry.tied else SeededSpec(entry)
