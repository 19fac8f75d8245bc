"""run.json, a record of the run beside the weights. The next run is compared with it.

write_record(folder, record)          # last of all files: it lists the others with their sizes
record = read_record(folder)          # None in a checkpoint of GPT-NeoX or of an older version
read_stored_config(folder, record)         # the configuration, of any checkpoint that has one
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neox_code.checkpoint.checksums import compute_checksum
from neox_code.checkpoint.layout import RUN_RECORD, find_config_files, is_hugging_face_model, is_written_by_this_package
from neox_code.config.assembly import Draft
from neox_code.config.checks import find_value_problems
from neox_code.config.fields import FIELDS, LARGEST
from neox_code.config.hugging_face import CONFIG_FILE, read_model_keys
from neox_code.config.legacy_keys import Assignment
from neox_code.config.neox import NeoXConfig
from neox_code.config.yaml_merge import Setting
from neox_code.errors import CheckpointError, ConfigError, DataError
from neox_code.files import read_json, write_json

FORMAT = "neox-code run 1"
BEST_ITERATION = "best_iteration"
"""Key of the training state: the iteration of the validation with the lowest loss."""

SCORED_ROWS = "scored_rows"
TRAINED_PADDING = {"mask_padded_vocab": False}
"""Configuration of models trained by GPT-NeoX or transformers, whose softmax includes the padding rows of the vocabulary."""
MOST_ROWS = 2**24
"""Maximum number of ranks and of vocabulary rows in a valid record."""


@dataclass(frozen=True)
class RunRecord:
    state: Mapping[str, float]
    """The training state: the result of training.state.TrainingState.as_dict."""

    run: str
    """Name of the run, the same after a resume: trackers and logs have a folder of this name."""

    started_from: Mapping[str, Any] | None
    """Keys that selected the checkpoint of the run's first start (`resume.make_start_request`); None for a start from scratch."""

    config: Mapping[str, Any]
    """All values of the run's configuration by key."""

    origins: Mapping[str, str]
    """Origin of each configuration key that was set: FILE:LINE or --set."""

    tokenizer: Mapping[str, Any]
    """The vocabulary, as `tokenizer.comparison.describe_vocabulary` returns it."""

    data: Mapping[str, Any]
    """The identity of the training data, as `data.identity.read_data_identity` returns it."""

    layout: Mapping[str, int]
    """Sizes of the pipeline, tensor and data axes, padded vocabulary size, and number of vocabulary rows that enter the softmax."""

    files: Mapping[str, int] = field(default_factory=dict)
    """Bytes of every other file of the checkpoint, by its path in the folder."""

    checksums: Mapping[str, str] = field(default_factory=dict)
    """Checksum of every other file (see `checkpoint.checksums`); empty in the records of older versions."""

    device: str = ""
    """Name of the GPU or processor of rank 0; empty in the records of older versions."""

    @property
    def iteration(self) -> int:
        return int(self.state["iteration"])


def write_record(folder: Path, record: RunRecord, known: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write run.json with sizes and checksums of all files in `folder`. Call it after all ranks have written their files.

    `known` are checksums of files, which are not read again.
    """
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    checksums = {name: known.get(name) or compute_checksum(path) for name, path in files.items()}
    whole = dataclasses.replace(record, files=sizes, checksums=checksums)
    write_json(folder / RUN_RECORD, {"format": FORMAT, **dataclasses.asdict(whole)})


def read_record(folder: Path) -> RunRecord | None:
    """Read run.json, the inverse of `write_record`; return None if there is none. Raise CheckpointError if it is damaged."""
    path = folder / RUN_RECORD
    if not os.path.lexists(path):
        return None
    try:
        content = read_json(path)
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has the format {content['format']!r:.60}, not {FORMAT!r}. Use the version that wrote it."
            )
        content = {"checksums": {}, "device": ""} | content  # older versions wrote none
        record = RunRecord(**{known.name: content[known.name] for known in dataclasses.fields(RunRecord)})
        for name in ("state", "config", "origins", "tokenizer", "data", "layout", "files", "checksums"):
            if not isinstance(getattr(record, name), dict):
                raise TypeError(f"{name} is not an object")
        check_values(record)
        return record
    except (AttributeError, DataError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Copy the checkpoint again, or remove the file.") from None


def check_values(record: RunRecord) -> None:
    """Raise ValueError if a value of the record is not valid."""
    if type(record.state["iteration"]) is not int:
        raise ValueError(f"iteration {record.state['iteration']!r:.60} is not a whole number")
    for section in ("state", "layout", "files"):
        for name, value in getattr(record, section).items():
            if not is_count(value) or (section == "layout" and value > MOST_ROWS):
                raise ValueError(f"{section}.{name} is {value!r:.60}")
    if not isinstance(record.run, str) or record.run in ("", ".", "..") or not {"/", "\0"}.isdisjoint(record.run):
        raise ValueError(f"run is {record.run!r:.60}")
    if not isinstance(record.device, str):
        raise ValueError(f"device is {record.device!r:.60}")
    if outside := [name for name in record.files if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise ValueError(f"files has {outside[0]!r:.60}")
    draft = Draft()
    for name in record.config.keys() & FIELDS.keys():
        draft.assign(Assignment(name, record.config[name]), Setting(name, record.config[name], "config"), replace=True)
    values = draft.values()
    problems = draft.messages() + [each.text for each in find_value_problems(values, lambda name: f"{name} ({values[name]!r:.60})")]
    if problems:
        raise ValueError(problems[0].rstrip("."))


def is_count(value: Any) -> bool:
    """Return True for a finite number that is not negative, as counts and durations are."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST


def list_incomplete_files(folder: Path, record: RunRecord) -> list[str]:
    """Return a sentence for each file of a checkpoint that is missing or does not have its recorded size."""
    found = []
    for name, size in record.files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif path.stat().st_size != size:
            found.append(f"{path} is damaged: it has {path.stat().st_size:,} of {size:,} bytes")
    return found


@dataclass(frozen=True)
class StoredConfig:
    """The configuration that a checkpoint was written with."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]


def read_stored_config(folder: Path, record: RunRecord | None) -> StoredConfig | None:
    """Return the configuration of a checkpoint: its record's, else that of its configuration files or its config.json.

    Return None if none of these can be read.
    """
    if record is not None:
        return StoredConfig(record.config, record.origins)
    if is_hugging_face_model(folder):
        place = str(folder / CONFIG_FILE)
        draft = Draft()
        for key, value in read_model_keys(folder / CONFIG_FILE).items():
            draft.add(Setting(key, value, place))
        described = NeoXConfig.from_draft(draft, ())
        return StoredConfig(described.values() | TRAINED_PADDING, described.origins)
    files = find_config_files(folder)
    try:
        config = NeoXConfig.load(files) if files else None
    except ConfigError:
        return None
    if config is None:
        return None
    return StoredConfig(config.values() | ({} if is_written_by_this_package(folder) else TRAINED_PADDING), config.origins)
