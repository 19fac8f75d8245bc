"""Read the optimizer state in a checkpoint's files of any layout, parameter by parameter, without an engine.

    states = read_optimizer_state(folder, model)
    states.read("sequential.2.mlp.dense_h_to_4h.weight", "exp_avg")        # the whole tensor, read when it is used
    weights = read_averages(folder, model)                                 # the averages of `average_decay` as weights

For each group of parameters (matrices, vectors), a file has one flat tensor of fp32 weights and one of each moment:

    the flat tensor of a group   [ embedding | 2.query_key_value | 2.dense | ... ]     in the order of the module's parameters
    files of data ranks          |-- rank 0 --|-- rank 1 --|-- rank 2 --|               `param_slice_mappings` has the positions
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from neox_code.checkpoint.layout import (
    is_universal,
    is_written_by_this_package,
    list_layer_files,
    list_model_files,
    list_optimizer_files,
    model_file,
)
from neox_code.checkpoint.merge_ranks import find_our_name, get_name_in_whole_model, merge_parts
from neox_code.checkpoint.serialization import is_dense_tensor, load_file
from neox_code.checkpoint.universal import AVERAGE, LOSS_SCALE, MASTER, STEP, UniversalFiles, parse_step
from neox_code.checkpoint.weights import EMBEDDING, LazyWeights, has_summed_row_biases, read_weights
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError


@dataclass(frozen=True)
class SavedSizes:
    """Sizes of the parallel axes of the run that wrote a checkpoint."""

    data: int
    tensor: int
    pipeline: int
    """Number of pipeline stages; 0 for a model without a pipeline."""

    @classmethod
    def from_folder(cls, folder: Path) -> "SavedSizes":
        files = list_optimizer_files(folder)
        data, model_ranks = ({rank[axis] for rank in files} for axis in (0, 1))
        tensor = len({rank for _, rank in list_layer_files(folder)})
        return cls(len(data), tensor or len(model_ranks), len(model_ranks) // tensor if tensor else 0)

    def __str__(self) -> str:
        pipeline = f"{self.pipeline} pipeline ranks" if self.pipeline else "no pipeline"
        return f"{self.data} data x {self.tensor} tensor x {pipeline}"


def read_optimizer_state(folder: Path, model: ModelConfig) -> "UniversalFiles | ZeroFiles":
    """Return the optimizer state of a checkpoint. Raise CheckpointError if the checkpoint has none, or if files are missing."""
    return UniversalFiles(folder) if is_universal(folder) else ZeroFiles(folder, model)


def read_chosen_weights(folder: Path, model: ModelConfig, use_average: bool) -> LazyWeights:
    """Return the weights of a checkpoint, or with `use_average` their averages; see `read_weights` and `read_averages`."""
    return (read_averages if use_average else read_weights)(folder, model)


def read_averages(folder: Path, model: ModelConfig) -> LazyWeights:
    """Return the averages of the weights in a checkpoint (`average_decay`), in the type of its weights; see `read_weights`.

    Raise CheckpointError if the checkpoint has none.
    """
    weights = read_weights(folder, model)
    states = read_optimizer_state(folder, model)
    require_states(states, weights)
    if AVERAGE not in states.list_keys(EMBEDDING):
        raise CheckpointError(
            f"{folder} holds no averages of weights, which average_decay keeps. Remove use_average, or choose another checkpoint."
        )
    dtype = weights[EMBEDDING].dtype

    def read(name: str) -> torch.Tensor:
        return states.read(name, AVERAGE).to(dtype)

    readers = {name: partial(read, name) for name in weights}
    return LazyWeights(readers, weights.tensor_size, f"{weights.description}; their averages are used")


class ZeroFiles:
    """Reader of the optimizer state in all ranks' files of a run with ZeRO stage 0, 1 or 2. Parameters have whole-model names."""

    def __init__(self, folder: Path, model: ModelConfig):
        self.folder, self.model = folder, model
        self.paths = list_optimizer_files(folder)
        if not self.paths:
            raise CheckpointError(
                f"{folder} holds no optimizer state (*_optim_states.pt). Load the weights alone with no_load_optim: true, or "
                "convert them to another format."
            )
        self.data_ranks, self.model_ranks = (sorted({rank[axis] for rank in self.paths}) for axis in (0, 1))
        if missing := set(product(self.data_ranks, self.model_ranks)) - self.paths.keys() or (
            set(self.model_ranks) - list_model_files(folder).keys()
        ):
            raise CheckpointError(f"{folder} lacks the optimizer state of rank {min(missing)}. Copy the checkpoint again.")
        tensor_size = SavedSizes.from_folder(folder).tensor
        self.parts: dict[str, list[tuple[int, str, torch.Size]]] = {}
        """Parameter's name in the whole model -> per tensor rank: (model-parallel rank, name on that rank, shape on that rank)."""
        for rank in self.model_ranks:
            for name, shape in read_shapes(model_file(folder, rank)).items():
                if ours := find_our_name(name):
                    parts = self.parts.setdefault(get_name_in_whole_model(ours), [])
                    if len(parts) < tensor_size:  # a tied embedding is on the first and the last stage
                        parts.append((rank, name, shape))
        self.names = frozenset(self.parts)
        # in this package's optimizer every rank has a copy
        self.has_summed_biases = has_summed_row_biases(model, folder) and not is_written_by_this_package(folder)
        self.opened: dict[tuple[int, int], ZeroFile] = {}

    def list_keys(self, name: str) -> tuple[str, ...]:
        """Return the names of the tensors in a parameter's state: MASTER (the weights), and the names of its moments."""
        file, inner = self.find_file(name)
        return tuple(file.get_group_tensors(file.positions[inner][0])) if file else ()

    def find_file(self, name: str) -> tuple["ZeroFile | None", str]:
        """Return a file with a part of the parameter, if there is one, and the name of the parameter in it."""
        rank, inner, _ = self.parts[name][0]
        files = (self.open(data_rank, rank) for data_rank in self.data_ranks)
        return next((file for file in files if inner in file.positions), None), inner

    def open(self, data_rank: int, model_rank: int) -> "ZeroFile":
        if (data_rank, model_rank) not in self.opened:
            self.opened[data_rank, model_rank] = ZeroFile(self.paths[data_rank, model_rank])
        return self.opened[data_rank, model_rank]

    def read(self, name: str, key: str) -> torch.Tensor:
        """Return a whole tensor of a parameter's state. Raise CheckpointError if a file is missing or damaged."""
        parts = [self.read_part(*part, key) for part in self.parts[name]]
        return merge_parts(name, parts, self.model, self.has_summed_biases and key == MASTER)

    def read_part(self, model_rank: int, name: str, shape: torch.Size, key: str) -> torch.Tensor:
        """Return the part of the tensor `key` on one model-parallel rank, merged from the files of all data ranks."""
        files = [self.open(data_rank, model_rank) for data_rank in self.data_ranks]
        fragments = [file.read_fragment(name, key) for file in files if name in file.positions]
        flat = torch.cat(fragments) if fragments else torch.empty(0)
        if flat.numel() != shape.numel():
            raise CheckpointError(
                f"{self.folder} has {flat.numel():,} values of {key} for {name} on model-parallel rank {model_rank}, "
                f"but the parameter has shape {tuple(shape)}. Copy the checkpoint again."
            )
        return flat.view(shape)

    def read_step(self, name: str) -> int | None:
        """Return the number of updates of a parameter; None if the optimizer does not count them."""
        file, inner = self.find_file(name)
        return file.read_step(inner) if file else None

    def read_global_state(self) -> dict[str, Any]:
        """Return hyperparameters (`param_groups`) and the state of the loss scaler (LOSS_SCALE), each only if the files have it."""
        state = self.open(self.data_ranks[0], self.model_ranks[0]).state
        groups = state["base_optimizer_state"].get("param_groups")
        return {"param_groups": groups, "ds_version": state.get("ds_version"), LOSS_SCALE: state.get("loss_scaler")}


def read_shapes(path: Path) -> dict[str, torch.Size]:
    """Return the shapes of the parameters of a model-parallel rank, by their names on that rank."""
    content = load_file(path, mmap=True)
    try:
        return {name: torch.Size(shape) for group in content["param_shapes"] for name, shape in group.items()}
    except (AttributeError, KeyError, TypeError):
        raise CheckpointError(
            f"{path} has no parameter shapes (param_shapes), so the optimizer state cannot be resharded. "
            "Load only the weights with no_load_optim: true."
        ) from None


class ZeroFile:
    """The optimizer state of one rank: flat tensors, mapped from the file, and the positions of parameters in them."""

    def __init__(self, path: Path):
        self.path = path
        content = load_file(path, mmap=True)
        try:
            self.state: Mapping[str, Any] = content["optimizer_state_dict"]
            self.masters = self.state["single_partition_of_fp32_groups"]
            if not all(map(is_dense_tensor, self.masters)):
                raise ValueError("tensors that are not plain")
            self.groups = self.state["base_optimizer_state"]["state"]
            self.positions: dict[str, tuple[int, int, int]] = {}
            """Name of a parameter -> (its group, start and number of its values in the group's flat tensors)."""
            for group, addresses in enumerate(self.state["param_slice_mappings"]):
                for name, address in addresses.items():
                    place = address if isinstance(address, Mapping) else vars(address)  # an object in files of older versions
                    start, count = int(place["start"]), int(place["numel"])
                    if not 0 <= start <= start + count <= self.masters[group].numel():
                        raise ValueError(f"position of {name}")
                    self.positions[name] = (group, start, count)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} holds no optimizer state of ZeRO stage 1 or 2 that can be resharded ({error}). Load only the weights with "
                "no_load_optim: true."
            ) from None

    def get_group_tensors(self, group: int) -> dict[str, torch.Tensor]:
        """Return the flat tensors of a parameter group: MASTER -> fp32 weights, "exp_avg" and other names of moments -> moments."""
        state = self.groups.get(group, {})
        moments = {key: value for key, value in state.items() if is_dense_tensor(value) and value.dim() == 1}
        return {MASTER: self.masters[group].detach()} | moments

    def read_fragment(self, name: str, key: str) -> torch.Tensor:
        """Return this rank's values of a parameter as a flat tensor, which is empty if the state lacks the parameter."""
        group, start, count = self.positions[name]
        return self.get_group_tensors(group).get(key, torch.empty(0))[start : start + count]

    def read_step(self, name: str) -> int | None:
        step = self.groups.get(self.positions[name][0], {}).get(STEP)
        return None if step is None else parse_step(self.path, step)


def require_states(states: UniversalFiles | ZeroFiles, names: Iterable[str]) -> None:
    """Raise CheckpointError if the state of a parameter is missing."""
    if missing := sorted(set(names) - states.names):
        raise CheckpointError(f"{states.folder} holds no state of {missing[0]}. Load the weights alone with no_load_optim: true.")
