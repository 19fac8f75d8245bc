"""Read a model in the layout of Hugging Face: config.json with weights in safetensors or in torch's files, whole or in shards.

    make_hugging_face_readers(folder, model)["sequential.2.attention.query_key_value.weight"]()    # our parameter

The folder is data from elsewhere: torch's files are read with `weights_only`, and no path or link leads out of the folder, except
to the blobs of Hugging Face's own cache.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import EinopsError
from safetensors import SafetensorError, safe_open

from neox_code.checkpoint.consistency import check_entry
from neox_code.checkpoint.foreign_names import FREQUENCIES, SKIPPED, ForeignRow, list_foreign_rows
from neox_code.checkpoint.layout import is_outside_folder
from neox_code.checkpoint.serialization import load_file, require_state_dict
from neox_code.config.hugging_face import CONFIG_FILE, read_config, read_json_object
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of a file with all weights; the first that exists is read. The index of shards has the same name plus INDEX_SUFFIX."""

INDEX_SUFFIX = ".index.json"


def make_hugging_face_readers(folder: Path, model: ModelConfig) -> dict[str, Callable[[], torch.Tensor]]:
    """Return our name of a parameter -> function that reads the parameter from the folder.

    Raise CheckpointError if a file is missing or damaged, a tensor is missing, or the model has no parameter for a tensor.
    """
    architecture = read_config(folder / CONFIG_FILE)["model_type"]
    shards = Shards(folder)
    if model.num_layers > len(shards.places):
        raise CheckpointError(f"{folder} has {len(shards.places)} tensors, too few for {model.num_layers:,} layers. Copy it again.")
    readers: dict[str, Callable[[], torch.Tensor]] = {}
    taken: set[str] = set()
    for ours, row in list_foreign_rows(architecture, model).items():
        found = [name for name in row.names if name in shards.places]
        if not found or (ours.endswith("final_linear.weight") and not model.no_weight_tying):
            taken.update(found)
            continue
        if missing := [name for name in row.names if name not in shards.places]:
            raise CheckpointError(f"{folder} lacks {missing[0]}. Copy the model again.")
        taken.update(row.names)
        readers[ours] = partial(read_parameter, shards, ours, row, model)
    for name in sorted(name for name in shards.places if name.endswith(FREQUENCIES)):
        check_entry(str(shards.places[name]), name, shards.read(name), model)
    if left := sorted(name for name in shards.places.keys() - taken if not name.endswith(SKIPPED)):
        raise CheckpointError(
            f"{folder} has {left[0]} and {len(left) - 1} more tensors that its configuration does not use. Copy the model again."
        )
    return readers


def read_parameter(shards: "Shards", ours: str, row: ForeignRow, model: ModelConfig) -> torch.Tensor:
    """Read the tensors that `row` of the name table lists, and return them as our parameter."""
    tensors = [shards.read(name) for name in row.names]
    try:
        return row.join(tensors, model)
    except (RuntimeError, ValueError, EinopsError):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in zip(row.names, tensors, strict=True))
        raise CheckpointError(
            f"{shards.folder} has shapes that do not fit its configuration: {shapes}. Copy the model again."
        ) from None


class Shards:
    """Reader of a folder's tensors by name. One weight file is open at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.opened: tuple[Path | None, Any] = (None, None)
        self.places = self.find()

    def find(self) -> dict[str, Path]:
        """Return the path of the weight file of each tensor, by the tensor's name."""
        for name in WEIGHTS:
            index = self.folder / f"{name}{INDEX_SUFFIX}"
            if index.is_file():
                listed = read_index(index)
                places = {tensor: self.require_path_in_folder(file) for tensor, file in listed.items()}
                for path in sorted(set(places.values())):
                    self.check_listed(path, {tensor for tensor, place in places.items() if place == path})
                return places
            if (self.folder / name).exists():
                path = self.require_path_in_folder(name)
                return dict.fromkeys(self.open(path), path)
        raise CheckpointError(f"{self.folder} has neither {' nor '.join(WEIGHTS)}, nor an index of shards. Copy the model again.")

    def check_listed(self, path: Path, listed: set[str]) -> None:
        """Raise CheckpointError unless a shard holds the tensors that the index lists."""
        if missing := sorted(listed - set(self.open(path))):
            raise CheckpointError(f"{path} lacks {missing[0]}, which the index lists. Copy the model again.")

    def require_path_in_folder(self, name: str) -> Path:
        """Return the path of a file in the folder. Raise CheckpointError if the file is missing or outside of the folder."""
        path = self.folder / name
        if Path(name).name != name or is_outside_folder(path, self.folder):
            raise CheckpointError(f"{self.folder} uses a file outside of it ({name}), which is forbidden. Copy the model again.")
        if not path.is_file():
            raise CheckpointError(f"{path} is missing. Copy the model again.")
        return path

    def open(self, path: Path) -> Mapping[str, Any]:
        """Open a weight file and return its tensors by name (`open_tensors`). The file stays open until the next one is opened."""
        if self.opened[0] != path:
            self.opened = (None, None)
            self.opened = (path, open_tensors(path))
        return self.opened[1]

    def read(self, name: str) -> torch.Tensor:
        value = self.open(self.places[name])[name]
        return value() if callable(value) else value


def open_tensors(path: Path) -> Mapping[str, Any]:
    """Return a file's tensors by name. For a safetensors file each value is a function that reads the tensor."""
    if path.suffix == ".bin":
        return require_state_dict(path, load_file(path, mmap=True))
    try:
        file = safe_open(path, framework="pt")
        return {name: partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} ({path.stat().st_size:,} bytes) is damaged ({error}). Copy the model again.") from None


def read_index(path: Path) -> dict[str, str]:
    """Read an index of shards: return the file name of each tensor, by the tensor's name."""
    listed = read_json_object(path).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
        raise CheckpointError(f"{path} is not an index of shards. Copy the model again.")
    return listed
