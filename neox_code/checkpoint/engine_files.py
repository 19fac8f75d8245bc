"""A checkpoint engine for DeepSpeed that reads and writes single files with `serialization`.

Files hold tensors, containers, strings and numbers alone: `torch.load(path, weights_only=True)` reads each of them anywhere.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from neox_code.checkpoint.layout import LAYER_FILE
from neox_code.checkpoint.merge_ranks import find_our_name
from neox_code.checkpoint.serialization import load_file, save_file

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
    """DeepSpeed's checkpoint engine that reads and writes single files by `load_file` and `save_file`."""

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        optimizer = state_dict.get("optimizer_state_dict")
        save_file({**state_dict, "optimizer_state_dict": convert_to_plain_values(optimizer)} if optimizer else state_dict, path)

    def load(self, path: str, map_location: Any = None) -> Any:
        content = load_file(path, map_location)
        if LAYER_FILE.fullmatch(Path(path).name):
            return rename_parameters(content)
        if isinstance(content, Mapping) and "module" in content:
            return {**content, "module": rename_parameters(content["module"])}
        return content
