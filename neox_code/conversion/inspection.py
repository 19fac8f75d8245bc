"""Describe a checkpoint of any format: sizes, layout, parameters with their norms, and damage.

    inspection = inspect_model(Path("checkpoints"), iteration=1000)
    inspection.damage                                       # [] for a checkpoint that is whole
    compare_models(Path("checkpoints"), Path("model"))      # parameters and keys that differ

Damage is collected in a list instead of raised, and everything readable is described. One parameter at a time is in memory.
"""

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from neox_code.checkpoint.consistency import compute_expected_shapes
from neox_code.checkpoint.hugging_face import INDEX_SUFFIX, WEIGHTS, open_tensors, read_index
from neox_code.checkpoint.layout import (
    HUGGING_FACE_WEIGHTS,
    MODEL_FILE,
    RUN_RECORD,
    find_checkpoint,
    has_zero_3_files,
    is_hugging_face_model,
    is_written_by_this_package,
    list_layer_files,
    list_model_files,
    parse_iteration,
)
from neox_code.checkpoint.model_folder import PATH_KEYS, TOKENIZER_KEYS, merge_config
from neox_code.checkpoint.record import RunRecord, list_incomplete_files, read_record
from neox_code.checkpoint.serialization import check_checksums, load_file, make_damaged_error, require_state_dict
from neox_code.checkpoint.weights import read_module, read_weights
from neox_code.config.command_line import CommandLine
from neox_code.config.fields import FIELDS
from neox_code.config.hugging_face import CONFIG_FILE, read_config
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError, NeoXError
from neox_code.model.sharding import get_sharding
from neox_code.tokenizer.comparison import hash_ids
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import build_tokenizer

VALUES_AT_ONCE = 2**24
"""Number of values of a parameter that are converted to fp64 at a time."""

NO_CHECKSUM = "safetensors files have no checksum: a changed bit is found only if it makes a value that is not finite"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class ParameterFigures:
    name: str
    shape: tuple[int, ...]
    dtype: str
    norm: float
    """L2 norm of the finite values."""

    not_finite: int
    """Number of values that are NaN or infinite."""


@dataclass
class Inspection:
    folder: Path
    form: str
    writer: str
    files: int
    bytes: int
    """Size of all files of the checkpoint, in bytes."""

    layout: Mapping[str, int]
    iteration: int | None
    tokens: int | None
    """Number of tokens that the run has read; None without a record of the run."""

    vocabulary: str | None = None
    entries: int | None = None
    """Number of entries of the vocabulary; None if the vocabulary's files are missing."""

    parameters: list[ParameterFigures] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Reasons why undamaged parts of the checkpoint are not described."""

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(row.shape) for row in self.parameters)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"num_parameters": self.num_parameters}


def inspect_model(path: Path, iteration: int | None = None) -> Inspection:
    """Return sizes, layout, parameters and damage of a checkpoint. Raise CheckpointError if `path` holds no checkpoint."""
    folder = find_checkpoint(path, iteration)
    damage: list[str] = []
    record = call_and_note_damage(damage, read_record, folder)
    files = [entry for entry in folder.rglob("*") if entry.is_file()]
    form, writer = describe_format(folder)
    tokens = record.state.get("consumed_tokens") if record else None
    inspection = Inspection(
        folder,
        form,
        writer,
        files=len(files),
        bytes=sum(entry.stat().st_size for entry in files),
        layout=describe_layout(folder, record),
        iteration=record.iteration if record else parse_iteration(folder),
        tokens=int(tokens) if tokens else None,
    )
    if any(entry.suffix == ".safetensors" for entry in files):
        inspection.remarks.append(NO_CHECKSUM)
    damage += [*(list_incomplete_files(folder, record) if record else ()), *find_damaged_files(folder)]
    config = call_and_note_damage(damage, read_configuration, path, iteration, inspection.remarks)
    tokenizer = call_and_note_damage(damage, read_tokenizer, config) if config else None
    if config and config.data.vocab_file:
        inspection.vocabulary = config.data.vocab_file
        inspection.entries = tokenizer.vocab_size if tokenizer else None
    names = []
    for name, read in make_readers(folder, config, damage, inspection.remarks):
        names.append(name)
        weight = call_and_note_damage(damage, read)
        if weight is not None and (figures := call_and_note_damage(damage, compute_figures, name, weight)):
            inspection.parameters.append(figures)
            if figures.not_finite:
                damage.append(f"{name} has {figures.not_finite:,} values that are not finite")
    if config:
        damage += find_mismatches(config, names, inspection.parameters, inspection.entries)
    inspection.damage = list(dict.fromkeys(damage))
    return inspection


def read_configuration(path: Path, iteration: int | None, remarks: list[str]) -> NeoXConfig:
    """Return the configuration of a model. Raise NeoXError if it cannot be read.

    If only the vocabulary cannot be read (its file may be outside of the model's folder), add the reason to `remarks`.
    """
    keys: dict[str, Any] = {} if iteration is None else {"iteration": iteration}
    try:
        return merge_config(CommandLine((path,), keys))
    except NeoXError as error:
        config = merge_config(CommandLine((path,), keys | dict.fromkeys(PATH_KEYS)))
        remarks.append(str(error))
        return config


def call_and_note_damage(damage: list[str], function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T | None:
    """Return the function's result; if it raises a user's error, add its message to `damage` and return None."""
    try:
        return function(*arguments, **named)
    except NeoXError as error:
        damage.append(str(error))
        return None


def read_tokenizer(config: NeoXConfig) -> Tokenizer | None:
    """Return the tokenizer of a model; None if its vocabulary files are missing."""
    file = config.data.vocab_file
    return build_tokenizer(config.data) if file and Path(file).exists() else None


def describe_format(folder: Path) -> tuple[str, str]:
    """Return the format of a checkpoint and the program that wrote it."""
    if is_hugging_face_model(folder):
        try:
            config = read_config(folder / CONFIG_FILE)
        except CheckpointError:
            return "Hugging Face", "not known"
        version = config.get("transformers_version")
        return f"Hugging Face, {config['model_type']}", f"transformers {version}" if isinstance(version, str) else "not known"
    form = "layer files" if list_layer_files(folder) else "model state files"
    if has_zero_3_files(folder):
        form = "files of ZeRO stage 3"
    return f"GPT-NeoX, {form}", "neox-code" if is_written_by_this_package(folder) or (folder / RUN_RECORD).exists() else "GPT-NeoX"


def describe_layout(folder: Path, record: RunRecord | None) -> Mapping[str, int]:
    """Return the sizes of the parallel axes: from the run's record if there is one, else from the file names."""
    if record:
        return record.layout
    if is_hugging_face_model(folder):
        return {"shards": sum(1 for name in HUGGING_FACE_WEIGHTS for _ in folder.glob(name))}
    ranks = {rank for _, rank in list_layer_files(folder)} or set(list_model_files(folder))
    return {"model_parallel_size": len(ranks)}


def find_damaged_files(folder: Path) -> Iterator[str]:
    """Yield a sentence for each file of tensors that is missing, cut short or has a wrong checksum."""
    for name in WEIGHTS:
        index = folder / f"{name}{INDEX_SUFFIX}"
        if index.is_file():
            problems: list[str] = []
            listed = call_and_note_damage(problems, read_index, index) or {}
            yield from problems
            for file in sorted(set(listed.values())):
                if not (folder / file).is_file():
                    yield f"{folder / file} is missing. Copy the model again."
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".pt", ".bin", ".safetensors"):
            problems = []
            call_and_note_damage(problems, check_tensor_file, path)
            yield from problems


def check_tensor_file(path: Path) -> None:
    """Raise CheckpointError for a damaged file. Of a zip file (torch.save) only the checksums are compared."""
    if path.suffix == ".safetensors":
        open_tensors(path)
    elif zipfile.is_zipfile(path):
        try:
            check_checksums(path)
        except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise make_damaged_error(path, str(error)) from None
    else:
        load_file(path)


def make_readers(
    folder: Path, config: NeoXConfig | None, damage: list[str], remarks: list[str]
) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Yield a name and a reader for each whole parameter. If parts cannot be merged, yield them for each tensor in each file."""
    if config:
        try:
            weights = read_weights(folder, config.model, is_whole=False)
        except NeoXError as error:
            is_whole_elsewhere = has_zero_3_files(folder) and not list_layer_files(folder)
            (remarks if is_whole_elsewhere else damage).append(str(error))
        else:
            yield from weights.readers.items()
            return
    if is_hugging_face_model(folder):
        paths = sorted(path for name in HUGGING_FACE_WEIGHTS for path in folder.glob(name))
    else:
        paths = sorted([*list_layer_files(folder).values(), *list_model_files(folder).values()])
    for path in paths:
        for name, value in (call_and_note_damage(damage, open_any_format, path) or {}).items():
            yield f"{path.name}: {name}", value if isinstance(value, partial) else partial(lambda tensor: tensor, value)


def open_any_format(path: Path) -> Mapping[str, Any]:
    """Return a file's tensors by name, for any format. A value may be a function that reads the tensor."""
    if path.suffix == ".safetensors":
        return open_tensors(path)
    is_model_file = MODEL_FILE.fullmatch(path.name)
    return read_module(path) if is_model_file else require_state_dict(path, load_file(path, mmap=True))


def compute_figures(name: str, weight: torch.Tensor) -> ParameterFigures:
    """Return shape, type, norm and number of non-finite values of a parameter."""
    if not weight.is_floating_point():
        raise CheckpointError(f"{name} has values of type {weight.dtype}, which no parameter has. Copy the checkpoint again.")
    squares, not_finite = 0.0, 0
    for part in weight.flatten().split(VALUES_AT_ONCE):
        values = part.double()
        is_finite = values.isfinite()
        not_finite += values.numel() - int(is_finite.sum())
        squares += float(values[is_finite].square().sum())
    return ParameterFigures(name, tuple(weight.shape), str(weight.dtype).removeprefix("torch."), math.sqrt(squares), not_finite)


def find_mismatches(config: NeoXConfig, names: list[str], parameters: list[ParameterFigures], entries: int | None) -> Iterator[str]:
    """Yield a sentence for each parameter that is missing, left over, or of another shape than the configuration's model.

    `names` also has the parameters that could not be read. Tensors with names of other formats are not compared.
    """
    if not names or not all(name.startswith("sequential.") for name in names):
        return
    found = {row.name: row.shape for row in parameters}
    rows = max((shape[0] for name, shape in found.items() if get_sharding(name).is_vocabulary), default=1)
    shapes = compute_expected_shapes(config.model)
    expected = {name: (rows, *shape[1:]) if get_sharding(name).is_vocabulary else shape for name, shape in shapes.items()}
    yield from (f"{name} is missing" for name in expected if name not in names)
    yield from (f"{name} is in no model of this configuration" for name in names if name not in expected)
    for name, shape in found.items():
        if shape != expected.get(name, shape):
            yield f"{name} has shape {shape}, and the configuration's model {expected[name]}"
    if entries and rows < entries:
        yield f"the vocabulary has {entries:,} entries and the model {rows:,} rows"


# ---- two models


@dataclass(frozen=True)
class ParameterDifference:
    """A parameter that is not equal in two models."""

    name: str
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    """Shape of the parameter in each model; None for a model that lacks the parameter."""

    dtypes: tuple[str | None, str | None]
    norm: float | None
    """L2 norm of the difference; None if the shapes differ. Of embedding and head, only rows that both models have are compared."""

    relative: float | None
    """`norm` divided by the norm of the first model's parameter."""


@dataclass(frozen=True)
class ModelComparison:
    parameters: list[ParameterDifference]
    num_equal: int
    """Number of parameters that have equal values and types in both models."""

    keys: dict[str, tuple[Any, Any]]
    """Configuration key with different values -> the value of each model."""


def compare_models(first: Path, second: Path, iteration: int | None = None) -> ModelComparison:
    """Return the differences between two models of any format. Raise NeoXError if a model cannot be read.

    `iteration` selects the checkpoint of the first model.
    """
    configs = read_configuration(first, iteration, []), read_configuration(second, None, [])
    folders = find_checkpoint(first, iteration), find_checkpoint(second)
    weights = [read_weights(folder, config.model) for folder, config in zip(folders, configs, strict=True)]
    names = list(dict.fromkeys([*weights[0], *weights[1]]))
    rows = (compare_parameter(name, weights[0].get(name), weights[1].get(name)) for name in names)
    differing = [row for row in rows if row]
    return ModelComparison(differing, len(names) - len(differing), compare_keys(*configs))


def compare_parameter(name: str, first: torch.Tensor | None, second: torch.Tensor | None) -> ParameterDifference | None:
    """Return the difference of a parameter; None if both models have equal values and types."""
    shapes = tuple(None if weight is None else tuple(weight.shape) for weight in (first, second))
    dtypes = tuple(None if weight is None else str(weight.dtype).removeprefix("torch.") for weight in (first, second))
    norm = relative = None
    if first is not None and second is not None:
        if get_sharding(name).is_vocabulary:
            rows = min(first.shape[0], second.shape[0])
            first, second = first[:rows], second[:rows]
        if first.shape == second.shape:
            pairs = zip(first.flatten().split(VALUES_AT_ONCE), second.flatten().split(VALUES_AT_ONCE), strict=True)
            norm = math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in pairs))
            size = compute_figures(name, first).norm
            relative = norm / size if size else None
    if norm == 0 and shapes[0] == shapes[1] and dtypes[0] == dtypes[1]:
        return None
    return ParameterDifference(name, (shapes[0], shapes[1]), (dtypes[0], dtypes[1]), norm, relative)


def compare_keys(first: NeoXConfig, second: NeoXConfig) -> dict[str, tuple[Any, Any]]:
    """Return the keys of model and vocabulary whose values differ; vocabularies are compared by their content."""
    keys = [key for key, known in FIELDS.items() if known.section == "model" or key in TOKENIZER_KEYS]
    values = first.values(), second.values()
    found = {key: (values[0][key], values[1][key]) for key in keys if key not in PATH_KEYS and values[0][key] != values[1][key]}
    tokenizers = [read_tokenizer(config) for config in (first, second)]
    ids = [hash_ids(tokenizer, tokenizer.vocab_size) if tokenizer else None for tokenizer in tokenizers]
    if ids[0] != ids[1]:
        found["vocab_file"] = (first.data.vocab_file, second.data.vocab_file)
    return found
