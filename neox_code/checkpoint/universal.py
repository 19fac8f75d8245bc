"""Read DeepSpeed's universal format. A file holds a whole tensor of a parameter's optimizer state, so any layout can read it.

    global_stepN/zero/NAME/fp32.pt, exp_avg.pt, exp_avg_sq.pt     {"param": the whole tensor}, with the keys of `describe_sharding`
    global_stepN/zero/NAME/step.pt                                the number of updates
    global_stepN/zero/optimizer_state.pt                          hyperparameters, state of a loss scale
    global_stepN/mp_rank_MM_model_states.pt                       the training state

NAME is a parameter's name in a model without a pipeline (sequential.2.mlp...) or in a pipeline (2.mlp..., tied_modules.embed...).
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from neox_code.checkpoint.layout import UNIVERSAL_FOLDER
from neox_code.checkpoint.merge_ranks import find_our_name, get_name_in_whole_model
from neox_code.checkpoint.record import is_count
from neox_code.checkpoint.serialization import is_dense_tensor, load_file
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.model.gpt import TIED_EMBEDDING

SUBPARAM_SHAPE = "deepspeed.checkpoint.universal_checkpoint.SubparamShape"
torch.serialization.add_safe_globals([(SimpleNamespace, SUBPARAM_SHAPE)])  # an entry of `describe_sharding`, not used here

MASTER = "fp32"
"""Name of the fp32 weights in an optimizer state."""

AVERAGE = "weight_average"
"""Name of the average of the fp32 weights (`average_decay`) in an optimizer state."""

STEP = "step"
GLOBAL_STATE = "optimizer_state.pt"
LOSS_SCALE = "loss_scale_state"
"""Key of the loss scale's state in `optimizer_state.pt`. DeepSpeed ignores this key: it reads an object under `loss_scaler`."""


class UniversalFiles:
    """Reader of an optimizer state in the universal format. Parameters have the names of a whole model, sequential.INDEX.NAME."""

    def __init__(self, folder: Path):
        self.folder = folder / UNIVERSAL_FOLDER
        folders = [path for path in self.folder.iterdir() if path.is_dir()]
        found = {get_name_in_whole_model(ours): path for path in folders if (ours := find_our_name(path.name))}
        self.folders: Mapping[str, Path] = found
        if not found:
            raise CheckpointError(f"{self.folder} has no parameter folders. Copy the checkpoint again.")
        self.names = frozenset(found)

    def list_keys(self, name: str) -> tuple[str, ...]:
        """Return the names of the tensors in a parameter's state: MASTER (the weights), and the names of its moments."""
        return tuple(sorted(({path.stem for path in self.folders[name].glob("*.pt")} | {MASTER}) - {STEP}))

    def read(self, name: str, key: str) -> torch.Tensor:
        """Return a whole tensor of a parameter's state. Raise CheckpointError if its file is missing or damaged."""
        path = self.folders[name] / f"{key}.pt"
        content = load_file(path, mmap=True)
        whole = content.get("param") if isinstance(content, Mapping) else content
        if not is_dense_tensor(whole):
            raise CheckpointError(f"{path} holds no dense tensor under the key param. Copy the checkpoint again.")
        return whole

    def read_step(self, name: str) -> int | None:
        """Return the number of updates of a parameter; None if the optimizer does not count them."""
        path = self.folders[name] / f"{STEP}.pt"
        return parse_step(path, load_file(path)) if path.is_file() else None

    def read_global_state(self) -> dict[str, Any]:
        """Return hyperparameters (`param_groups`) and the state of the loss scaler (LOSS_SCALE), each only if the file has it."""
        path = self.folder / GLOBAL_STATE
        content = load_file(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} contains a {type(content).__name__}, not a dictionary. Copy the checkpoint again.")
        return {LOSS_SCALE: content.get("loss_scaler"), **content}

    def weight_readers(self) -> dict[str, Callable[[], torch.Tensor]]:
        """Return name of a parameter -> function that reads its fp32 weights."""
        order = sorted(self.names, key=lambda name: int(name.split(".")[1]))
        return {name: partial(self.read, name, MASTER) for name in order}


def parse_step(path: Path, value: Any) -> int:
    """Return a number of updates. Raise CheckpointError if the value, read from the file `path`, is not such a number."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and is_dense_tensor(value):
        value = value.item()
    if not is_count(value):
        raise CheckpointError(f"{path} has {value!r:.60} as the number of updates. Copy the checkpoint again.")
    return int(value)


def get_name_in_engine(name: str, has_pipeline: bool, model: ModelConfig) -> str:
    """Return a parameter's name in DeepSpeed's engine from its name in a whole model: the inverse of `get_name_in_whole_model`."""
    if not has_pipeline:
        return name
    inner = name.removeprefix("sequential.")
    is_tied = inner.startswith("0.") and not model.no_weight_tying
    return inner.replace("0.", f"tied_modules.{TIED_EMBEDDING}.", 1) if is_tied else inner
