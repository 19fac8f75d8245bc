"""Load only the weights of a checkpoint: from files of any format and layout, into a module of any layout.

load_weights(gpt, folder, model, vocab_size)                       into a whole model
load_weights(engine.module, folder, model, vocab_size, grid)       into this rank's part of one
weights = read_weights(folder, model)                              a mapping whose values are read when they are used

Formats: layer files and model state files of GPT-NeoX and of this package, at any tensor-parallel size; folders of Hugging Face,
see `checkpoint.hugging_face`; DeepSpeed's universal format, see `checkpoint.universal`. At most one layer or one file is open, and
one whole parameter in memory beside the module's own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from neox_code.checkpoint.consistency import check_arguments, check_entry, check_names, check_size, check_value
from neox_code.checkpoint.hugging_face import make_hugging_face_readers
from neox_code.checkpoint.layout import (
    ADAPTER_FOLDER,
    MERGED_CONFIG,
    RUN_RECORD,
    WHOLE_MODEL_NAME,
    find_configuration,
    is_adapter_checkpoint,
    is_hugging_face_model,
    is_universal,
    is_written_by_this_package,
    list_layer_files,
    list_model_files,
    require_whole_weights,
)
from neox_code.checkpoint.merge_ranks import cut_part, find_our_name, get_name_in_whole_model, merge_parts, resize_vocabulary
from neox_code.checkpoint.serialization import OTHER_LAYOUT, StateDict, load_file, require_state_dict
from neox_code.checkpoint.universal import UniversalFiles
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.logs import get_logger
from neox_code.model.sharding import get_sharding
from neox_code.parallel.grid import ParallelGrid, single_process_grid

log = get_logger(__name__)

WHOLE = single_process_grid()
"""The layout of a model that is not divided over ranks."""

EMBEDDING = "sequential.0.word_embeddings.weight"
MOST_PADDING = 1024
"""Largest usual padding of the vocabulary in Hugging Face models; most pad to a multiple of 1024 or of one of its divisors."""


def load_weights(
    module: nn.Module,
    folder: Path,
    model: ModelConfig,
    vocab_size: int,
    grid: ParallelGrid = WHOLE,
    weights: "LazyWeights | None" = None,
) -> None:
    """Fill a module (model.gpt.GPT, a pipeline stage or a tensor rank's part) from a checkpoint of any layout.

    `weights` are those of the checkpoint if they are open already. Raise CheckpointError if a file is missing or damaged, or a
    parameter is missing, left over or of another shape.
    """
    found = weights or read_weights(folder, model)
    log.info("%s %s", folder, found.description)
    check_rows(folder, found, model, vocab_size)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            name = get_name_in_whole_model(name)
            weight = found[name]
            parameter.copy_(make_rank_part(folder, name, weight, parameter.shape, model, vocab_size, grid))


def check_rows(folder: Path, weights: "LazyWeights", model: ModelConfig, vocab_size: int) -> None:
    """Log a warning if a checkpoint of another program has more vocabulary rows than the vocabulary with its padding."""
    rows = weights[EMBEDDING].shape[0]
    padding = model.make_vocab_size_divisible_by if weights.tensor_size else MOST_PADDING
    most = compute_padded_vocab_size(vocab_size, padding, weights.tensor_size or 1)
    if rows > most and not is_written_by_this_package(folder):
        log.warning(
            "%s has %s vocabulary rows, but %s entries with their padding make %s: this may not be the vocabulary of the training",
            *(folder, f"{rows:,}", f"{vocab_size:,}", f"{most:,}"),
        )


def make_rank_part(
    folder: Path, name: str, whole: torch.Tensor, shape: torch.Size, model: ModelConfig, vocab_size: int, grid: ParallelGrid
) -> torch.Tensor:
    """Return this rank's part of a whole parameter or moment. Raise CheckpointError unless the part has `shape`."""
    if get_sharding(name).is_vocabulary:
        whole = resize_vocabulary(name, whole, shape[0] * grid.tensor_size, vocab_size)
    part = cut_part(name, whole, grid.tensor_rank, grid.tensor_size, model)
    if part.shape != shape:
        raise CheckpointError(
            f"{name} has shape {tuple(part.shape)} in {folder} and {tuple(shape)} in this model. "
            f"Use the configuration that it was trained with: {find_configuration(folder)}."
        )
    return part


def has_summed_row_biases(model: ModelConfig, folder: Path) -> bool:
    """Return True if the bias of a row-parallel layer is the sum of the biases in the tensor ranks' files (see `merge_ranks`).

    GPT-NeoX and this package write such files with `gpt_j_residual`. Older versions of this package did not: their checkpoints have
    a merged configuration but no run.json.
    """
    is_older = (folder / "configs" / MERGED_CONFIG).exists() and not (folder / RUN_RECORD).exists()
    return model.gpt_j_residual and not is_older


def read_weights(folder: Path, model: ModelConfig, is_whole: bool = True, names_only: bool = False) -> "LazyWeights":
    """Return the whole weights of a checkpoint by name (`sequential.INDEX.NAME`), in layer order. Each weight is read when used.

    Raise CheckpointError for a damaged file. With `is_whole`, raise it also unless the checkpoint has exactly the parameters of the
    model. With `names_only`, which is for callers that read few values or none, no checksum is compared.
    """
    weights = open_weights(folder, model, names_only)
    if not is_whole:
        return weights
    check_names(folder, weights, model)
    check_size(folder, model)
    check_arguments(folder, model)
    checked = {name: partial(read_and_check, folder, name, model, read) for name, read in weights.readers.items()}
    return LazyWeights(checked, weights.tensor_size, weights.description)


def read_and_check(folder: Path, name: str, model: ModelConfig, read: Callable[[], torch.Tensor]) -> torch.Tensor:
    weight = read()
    check_value(folder, name, weight, model)
    return weight


def open_weights(folder: Path, model: ModelConfig, names_only: bool = False) -> "LazyWeights":
    """Return the weights of a checkpoint of any format. Their names are not compared with those of the model."""
    if is_adapter_checkpoint(folder):
        place = folder / ADAPTER_FOLDER
        raise CheckpointError(f"{folder} holds an adapter and not a model. Load its base, with --set adapters={place}.")
    if is_hugging_face_model(folder):
        return LazyWeights(make_hugging_face_readers(folder, model), description="is a Hugging Face model")
    if is_universal(folder):
        description = "has weights in DeepSpeed's universal format"
        return LazyWeights(UniversalFiles(folder).weight_readers(), description=description)
    if not (list_layer_files(folder) or list_model_files(folder)):
        require_whole_weights(folder)
        raise CheckpointError(
            f"{folder} holds neither layer_*-model_*-model_states.pt nor mp_rank_*_model_states.pt. Check the path."
        )
    files = (LayerFiles if list_layer_files(folder) else ModelFiles)(folder, names_only)
    writer = "this package" if is_written_by_this_package(folder) else "GPT-NeoX"
    description = f"has {files.kind} of {writer}, model_parallel_size {files.tensor_size}"
    return LazyWeights(make_merging_readers(folder, files, model), files.tensor_size, description)


class LazyWeights(Mapping[str, torch.Tensor]):
    """Whole weights by name. Each access reads and merges a weight again; nothing is kept in memory."""

    def __init__(self, readers: Mapping[str, Callable[[], torch.Tensor]], tensor_size: int | None = None, description: str = ""):
        self.readers = readers
        self.tensor_size = tensor_size
        """Tensor-parallel size of GPT-NeoX's files; None for other sources."""
        self.description = description
        """Files, writer and tensor-parallel size: "has layer files of GPT-NeoX, model_parallel_size 2", for example."""

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.readers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self.readers  # Mapping would read the value

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


class LayerFiles:
    """Reader of layer files. It returns a layer's state dicts for all tensor ranks; the files of one layer are open at a time."""

    kind = "layer files"

    def __init__(self, folder: Path, is_checked: bool):
        self.paths = list_layer_files(folder)
        self.layers = sorted({index for index, _ in self.paths})
        self.tensor_size = len({rank for _, rank in self.paths})
        for index in self.layers:
            if missing := [rank for rank in range(self.tensor_size) if (index, rank) not in self.paths]:
                raise CheckpointError(f"{folder} lacks layer {index:02d} of tensor rank {missing[0]}. Copy the checkpoint again.")
        self.opened: tuple[int, list[StateDict]] = (-1, [])
        self.checked: set[int] = set(self.layers) if is_checked else set()

    def read(self, index: int) -> list[StateDict]:
        """Return the layer's state dicts in the order of the tensor ranks; their values are mapped from the files."""
        if self.opened[0] != index:
            self.opened = (-1, [])
            paths = [self.paths[index, rank] for rank in range(self.tensor_size)]
            is_checked = index in self.checked
            states = [require_state_dict(path, load_file(path, mmap=True, is_checked=is_checked)) for path in paths]
            self.opened = (index, states)
            self.checked.add(index)
        return self.opened[1]


class ModelFiles:
    """Reader of model state files, which have all layers of one tensor rank. It returns a layer's state dicts for all ranks."""

    kind = "model state files (mp_rank)"

    def __init__(self, folder: Path, is_checked: bool):
        paths = dict(sorted(list_model_files(folder).items()))
        modules = [read_module(path, is_checked) for path in paths.values()]
        if not any(modules):
            raise CheckpointError(f"{folder} has no layer files, and its mp_rank_*_model_states.pt have no weights. Copy it again.")
        self.tensor_size = len(paths)
        self.states: dict[int, list[StateDict]] = {}
        for path, module in zip(paths.values(), modules, strict=True):
            layers: dict[int, dict[str, torch.Tensor]] = {}
            for name, weight in module.items():
                match = WHOLE_MODEL_NAME.fullmatch(name)
                if not match:
                    raise CheckpointError(f"{path} holds {name}, which is not of the form sequential.LAYER.NAME. {OTHER_LAYOUT}")
                layers.setdefault(int(match[1]), {})[match[2]] = weight
            for index, state in layers.items():
                self.states.setdefault(index, []).append(state)
        self.layers = sorted(self.states)
        for index, states in self.states.items():
            if len(states) != len(paths):
                raise CheckpointError(f"{folder} lacks the file of layer {index:02d} for a tensor rank. Copy the checkpoint again.")

    def read(self, index: int) -> list[StateDict]:
        return self.states[index]


def read_module(path: Path, is_checked: bool = False) -> StateDict:
    """Return the weights in a model state file; {} if the weights are in layer files."""
    content = load_file(path, mmap=True, is_checked=is_checked)
    return require_state_dict(path, (content.get("module") or {}) if isinstance(content, Mapping) else content)


def make_merging_readers(folder: Path, files: LayerFiles | ModelFiles, model: ModelConfig) -> dict[str, Callable[[], torch.Tensor]]:
    """Return name of a parameter -> function that reads the parts of all tensor ranks and returns the whole parameter."""
    is_summed = has_summed_row_biases(model, folder)

    def read(index: int, name: str, ours: str) -> torch.Tensor:
        return merge_parts(ours, [state[name] for state in files.read(index)], model, is_summed)

    readers: dict[str, Callable[[], torch.Tensor]] = {}
    for index in files.layers:
        states = files.read(index)
        check_equal_shapes(folder, index, states)
        for rank, (name, value) in ((rank, item) for rank, state in enumerate(states) for item in state.items()):
            if find_our_name(name) is None:
                check_entry(f"layer {index:02d} of {folder}", name, value, model, rank, files.tensor_size)
        for name in states[0]:
            if ours := find_our_name(name):
                readers[f"sequential.{index}.{ours}"] = partial(read, index, name, ours)
    return readers


def check_equal_shapes(folder: Path, index: int, states: Sequence[StateDict]) -> None:
    """Raise CheckpointError unless the tensor ranks' parts of a layer have the same names and shapes."""
    for rank, state in enumerate(states):
        for name in sorted(state.keys() | states[0].keys()):
            shapes = [tuple(part[name].shape) if name in part else None for part in (states[0], state)]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"layer {index:02d} of {folder} has {name} in shape {shapes[0]} on tensor rank 0 and {shapes[1]} on {rank}: "
                    "the files are of different runs. Copy the checkpoint again."
                )
