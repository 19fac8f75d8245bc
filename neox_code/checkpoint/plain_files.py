"""Write the files of the engine without DeepSpeed (training.plain_engine), with the names and the content of DeepSpeed's.

    write_plain_files(engine, folder, client_state, PlainLayout.from_config(config, grid))

With `pipe_parallel_size` 1 the weights are in layer files, as those of a pipeline of one stage; with 0 they are in the model state
file. DeepSpeed's engine, GPT-NeoX and the converters read both.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import deepspeed
import torch
from deepspeed.utils.tensor_fragment import fragment_address
from torch import nn

from neox_code.checkpoint.layout import get_layer_path, get_optimizer_path, model_file
from neox_code.checkpoint.optimizer_state import Fragment
from neox_code.checkpoint.universal import STEP, get_name_in_engine
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.parallel.grid import ParallelGrid


class StateGroup(Protocol):
    """A parameter group of the engine: training.flat_group.FlatGroup."""

    parameters: list[nn.Parameter]
    master: torch.Tensor
    moments: dict[str, torch.Tensor]
    padding: int

    def list_fragments(self) -> Iterator[Fragment]: ...


@dataclass(frozen=True)
class PlainLayout:
    """Settings that determine names and content of the files, besides the tensors."""

    grid: ParallelGrid
    model: ModelConfig
    has_layer_files: bool
    keeps_base: bool
    """True: the files hold the trained parameters alone, which were added to a base."""
    is_bf16: bool
    gradient_clipping: float

    @classmethod
    def from_config(cls, config: NeoXConfig, grid: ParallelGrid) -> "PlainLayout":
        model, keeps_base = config.model, config.adapter.keeps_base
        has_layer_files = config.parallelism.pipe_parallel_size > 0 and not keeps_base
        return cls(grid, model, has_layer_files, keeps_base, model.precision == "bfloat16", config.optimizer.gradient_clipping)


def write_plain_files(engine: Any, folder: Path, client_state: Mapping[str, Any], layout: PlainLayout) -> None:
    """Write this rank's files. The first data rank writes the weights, every data rank its part of the optimizer state."""
    folder.mkdir(parents=True, exist_ok=True)
    grid, save = layout.grid, engine.checkpoint_engine.save
    if grid.data_rank == 0:
        weights = {}
        if layout.has_layer_files:
            for index, layer in engine.module.sequential.items():
                save(copy_views(engine, layer.state_dict()), str(get_layer_path(folder, int(index), grid.tensor_rank)))
        elif layout.keeps_base:
            trained = {name: value.detach() for name, value in engine.module.named_parameters() if value.requires_grad}
            weights = copy_views(engine, trained)
        else:
            weights = copy_views(engine, engine.module.state_dict())
        state = make_model_state(engine, layout) | {"module": weights or None} | dict(client_state)
        save(state, str(model_file(folder, grid.tensor_rank)))
    state = {"optimizer_state_dict": make_optimizer_state(engine, layout), "ds_config": {}, "ds_version": deepspeed.__version__}
    save(state, str(get_optimizer_path(folder, grid.data_rank, grid.tensor_rank, layout.is_bf16)))


def copy_views(engine: Any, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict with tensors of their own if a file would get the whole flat tensor of which a parameter is a view."""
    is_copied = engine.checkpoint_engine.preserves_storage_sharing()
    return {name: value.clone() if is_copied else value for name, value in state_dict.items()}


def make_names(engine: Any, layout: PlainLayout) -> dict[nn.Parameter, str]:
    """Return the name of each parameter in DeepSpeed's engine."""
    return {
        parameter: get_name_in_engine(name, layout.has_layer_files, layout.model)
        for name, parameter in engine.module.named_parameters()
    }


def make_model_state(engine: Any, layout: PlainLayout) -> dict[str, Any]:
    """Return the content of the model state file without weights and client state."""
    names = make_names(engine, layout)
    empty = ("optimizer", "frozen_param_shapes", "frozen_param_fragments", "lr_scheduler", "data_sampler", "random_ltd")
    return {
        **dict.fromkeys(empty),
        "buffer_names": [],
        "param_shapes": [{names[each]: each.shape for each in group.parameters} for group in engine.groups],
        "shared_params": {},
        "skipped_steps": engine.skipped_steps,
        "global_steps": engine.global_steps,
        "global_samples": engine.global_samples,
        "dp_world_size": layout.grid.data_size,
        "mp_world_size": layout.grid.tensor_size,
        "ds_config": {},
        "ds_version": deepspeed.__version__,
    }


def make_optimizer_state(engine: Any, layout: PlainLayout) -> dict[str, Any]:
    """Return this rank's part of the optimizer state, as DeepSpeed's optimizers of ZeRO stage 1 store it."""
    names, grid = make_names(engine, layout), layout.grid
    groups: list[StateGroup] = engine.groups
    is_last = grid.data_rank == grid.data_size - 1
    paddings = [group.padding if is_last else 0 for group in groups]
    states, settings = {}, []
    for index, (group, given) in enumerate(zip(groups, engine.optimizer.param_groups, strict=True)):
        step = engine.read_updates(index)
        states[index] = dict(group.moments) | ({} if step is None else {STEP: step.detach().cpu()})
        settings.append({name: float(value) if name == "lr" else value for name, value in given.items()} | {"params": [index]})
    masters = [group.master.detach() for group in groups]
    if not layout.is_bf16:  # as in DeepSpeed's optimizer for other precisions
        masters = [master[: master.numel() - padding] for master, padding in zip(masters, paddings, strict=True)]
    content: dict[str, Any] = {
        "clip_grad": layout.gradient_clipping,
        "base_optimizer_state": {"state": states, "param_groups": settings},
        "single_partition_of_fp32_groups": [own_storage(engine, master) for master in masters],
        "zero_stage": 1,
        "group_paddings": paddings,
        "partition_count": [grid.data_size] * len(groups),
        "ds_version": deepspeed.__version__,
        "param_slice_mappings": [
            {names[each.parameter]: fragment_address(numel=each.size, start=each.target) for each in group.list_fragments()}
            for group in groups
        ],
    }
    if engine.loss_scale is not None:
        scale = SimpleNamespace(**engine.loss_scale.as_dict())
        content |= {"loss_scaler": scale, "dynamic_loss_scale": scale.dynamic, "overflow": False}
    return content


def own_storage(engine: Any, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, copied if a file would get a larger one of which it is a part."""
    is_part = (
        engine.checkpoint_engine.preserves_storage_sharing()
        and tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
    )
    return tensor.clone() if is_part else tensor
