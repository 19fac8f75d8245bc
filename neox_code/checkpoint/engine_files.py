"""DeepSpeed's reader and writer of single checkpoint files, replaced by those of `serialization`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from neox_code.checkpoint.layout import LAYER_FILE
from neox_code.checkpoint.merge_ranks import our_name
from neox_code.checkpoint.serialization import load_file, save_file

torch.serialization.add_safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address])  # what optimizer states hold


def replace_stage_enum(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return the state dict with ZeRO's stage as a number.

    Some versions of Python, 3.11.2 among them, pickle an enum as a call of `getattr`, which `weights_only` readers refuse.
    """
    optimizer = state_dict.get("optimizer_state_dict")
    if not isinstance(optimizer, dict) or "zero_stage" not in optimizer:
        return state_dict
    return {**state_dict, "optimizer_state_dict": {**optimizer, "zero_stage": int(optimizer["zero_stage"])}}


def rename_parameters(state_dict: Any) -> Any:
    """Return a state dict of any version of GPT-NeoX with our names and without entries that are not parameters."""
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        return state_dict
    return {ours: value for name, value in state_dict.items() if (ours := our_name(name))}


class WeightsOnlyEngine(TorchCheckpointEngine):
    """DeepSpeed's checkpoint engine that reads and writes single files by `load_file` and `save_file`."""

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        save_file(replace_stage_enum(state_dict), path)

    def load(self, path: str, map_location: Any = None) -> Any:
        content = load_file(path, map_location)
        if LAYER_FILE.fullmatch(Path(path).name):
            return rename_parameters(content)
        if isinstance(content, Mapping) and "module" in content:
            return {**content, "module": rename_parameters(content["module"])}
        return content
