"""Entries of a file in DeepSpeed's universal format, with which DeepSpeed divides the file's tensor over tensor-parallel ranks.

This is a module of its own, because `checkpoint.universal`, which reads the files, does not need DeepSpeed.
"""

from typing import Any

import torch
from deepspeed.checkpoint.universal_checkpoint import SubparamShape

from neox_code.config.model import ModelConfig
from neox_code.model.sharding import count_stacked_rows, get_sharding


def describe_sharding(name: str, whole: torch.Tensor, model: ModelConfig) -> dict[str, Any]:
    """Return the entries that DeepSpeed uses to divide a whole tensor over tensor-parallel ranks."""
    sharding = get_sharding(name)
    if sharding.dim is None:
        return {}
    rows = count_stacked_rows(name, model)
    if len(rows) == 2:
        return {"cat_dim": 0, "param_n_sub_params": 2}
    if rows:
        return {"sub_param_shape": SubparamShape(patterns=[], shape=(rows, *whole.shape[1:]), partition_dim=0)}
    return {"cat_dim": sharding.dim} | ({"vocab_tensor": True} if sharding.is_vocabulary else {})
