"""A checkpoint engine for DeepSpeed that reads single files with `serialization`, and collects those that are to be written.

    files = collect_files(engine, grid, save, tag, state)      # name -> state dict, whose tensors are the engine's own

Files hold tensors, containers, strings and numbers alone: `torch.load(path, weights_only=True)` reads each of them anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from deepspeed import DeepSpeedEngine
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from neox_code.checkpoint.buffers import add_gpt_neox_entries
from neox_code.checkpoint.layout import LAYER_FILE
from neox_code.checkpoint.merge_ranks import find_our_name
from neox_code.checkpoint.serialization import load_file
from neox_code.parallel.grid import ParallelGrid

torch.serialization.add_safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address])  # in older files


def convert_to_plain_values(state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state in which dictionaries and numbers replace DeepSpeed's own objects.

    When DeepSpeed loads a state, it reads one of these objects: the loss scaler, which `load.keep_optimizer_settings` replaces.
    """
    plain = dict(state)
    if "loss_scaler" in state:
        settings = vars(state["loss_scaler"])
        plain["loss_scaler"] = {name: value for name, value in settings.items() if isinstance(value, (bool, int, float))}
    if "zero_stage" in state:
        plain["zero_stage"] = int(state["zero_stage"])
    if "param_slice_mappings" in state:  # position of each parameter in its group's flat tensor
        plain["param_slice_mappings"] = [
            {name: asdict(address) for name, address in group.items()} for group in state["param_slice_mappings"]
        ]
    return plain


def rename_parameters(state_dict: Any) -> Any:
    """Return a state dict of any version of GPT-NeoX with our names and without entries that are not parameters."""
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        return state_dict
    return {ours: value for name, value in state_dict.items() if (ours := find_our_name(name))}


class WeightsOnlyEngine(TorchCheckpointEngine):
    """DeepSpeed's checkpoint engine that reads single files by `load_file`, and collects the files that DeepSpeed would write."""

    def __init__(self, config: Any = None):
        super().__init__(config)
        self.files: dict[str, Any] = {}
        """Name of a file -> its content."""

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        optimizer = state_dict.get("optimizer_state_dict")
        content = {**state_dict, "optimizer_state_dict": convert_to_plain_values(optimizer)} if optimizer else dict(state_dict)
        self.files[Path(path).name] = content

    def preserves_storage_sharing(self) -> bool:
        """Return False: DeepSpeed need not copy the tensors, because each is written as a tensor of its own."""
        return False

    def load(self, path: str, map_location: Any = None) -> Any:
        content = load_file(path, map_location)
        if LAYER_FILE.fullmatch(Path(path).name):
            return rename_parameters(content)
        if isinstance(content, Mapping) and "module" in content:
            return {**content, "module": rename_parameters(content["module"])}
        return content


def collect_files(engine: Any, grid: ParallelGrid, save: Path, tag: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the files of this rank in a checkpoint, name -> content, and create the folder SAVE/TAG. Call it on every rank.

    `state` is the training state. The tensors are those of the engine and change in its next step.
    """
    collector = engine.checkpoint_engine = WeightsOnlyEngine(engine._config if isinstance(engine, DeepSpeedEngine) else None)
    engine._copy_recovery_script = lambda save_path: None  # DeepSpeed's own converters, which do not read these layouts
    with add_gpt_neox_entries(engine.module, grid):
        engine.save_checkpoint(str(save), tag=tag, client_state=dict(state), save_latest=False)
    files, collector.files = collector.files, {}
    return files


def call_before_update(engine: Any, function: Callable[[], None]) -> None:
    """Call the function once before the engine changes weights or moments: in its next step, with ZeRO stage 3 at once."""
    if not isinstance(engine, DeepSpeedEngine):
        engine.before_update.append(function)  # its update does not always call the optimizer
        return
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    if engine.zero_optimization_stage() == 3 or not isinstance(optimizer, torch.optim.Optimizer):
        function()
        return

    def call_once(*arguments: Any) -> None:
        hook.remove()
        function()

    hook = optimizer.register_step_pre_hook(call_once)
