"""DeepSpeed's reading and writing of single checkpoint files, made to keep to the rules of `serialization`."""

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


def with_plain_stage(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The same with ZeRO's stage as a number. Some Pythons, 3.11.2 among them, pickle an enum as a call of `getattr`, and no reader
    that keeps to the rules accepts that.
    """
    optimizer = state_dict.get("optimizer_state_dict")
    if not isinstance(optimizer, dict) or "zero_stage" not in optimizer:
        return state_dict
    return {**state_dict, "optimizer_state_dict": {**optimizer, "zero_stage": int(optimizer["zero_stage"])}}


def in_our_names(state_dict: Any) -> Any:
    """A state dict of GPT-NeoX of any age, without what is no parameter."""
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        return state_dict
    return {ours: value for name, value in state_dict.items() if (ours := our_name(name))}


class WeightsOnlyEngine(TorchCheckpointEngine):
    """DeepSpeed's reader and writer of single files, made to keep to the rules above."""

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        save_file(with_plain_stage(state_dict), path)

    def load(self, path: str, map_location: Any = None) -> Any:
        content = load_file(path, map_location)
        if LAYER_FILE.fullmatch(Path(path).name):
            return in_our_names(content)
        if isinstance(content, Mapping) and "module" in content:
            return {**content, "module": in_our_names(content["module"])}
        return content
