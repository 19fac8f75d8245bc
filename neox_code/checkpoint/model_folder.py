"""Read a model's folder as a configuration: it sets the keys of the model and the vocabulary, and no other file is needed.

    config = load_config(command_line)          # the files, and the folder of a model among them or under `load`

A folder named among the configuration files sets `load`; only --set replaces this value. The folder's other keys have the lowest
priority: files and options replace them. The folder in `load` is read in the same way if no file describes a model (sets
`num_layers`). A folder sets only keys of its model and vocabulary, and its vocabulary files must be inside the folder.

    FOLDER or FOLDER/global_stepN               read from
    this package's checkpoint                   model.yml beside the weights, whose paths are relative to it; tokenizer/
    GPT-NeoX's and older ones of this package   configs/*.yml beside the weights or beside `latest`
    a model of Hugging Face                     config.json; tokenizer.json, vocab.json with merges.txt, or tokenizer.model
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from neox_code.checkpoint.layout import (
    VOCABULARY_FOLDER,
    find_checkpoint,
    find_config_files,
    is_hugging_face_model,
    is_outside_folder,
    is_written_by_this_package,
    parse_iteration,
)
from neox_code.config.assembly import DEFAULT
from neox_code.config.command_line import CommandLine
from neox_code.config.fields import FIELDS
from neox_code.config.hugging_face import CONFIG_FILE, read_model_keys
from neox_code.config.neox import NeoXConfig, to_yaml
from neox_code.config.yaml_merge import Setting, read_file, read_settings
from neox_code.errors import CheckpointError, ConfigError
from neox_code.installation import LAUNCHER
from neox_code.logs import get_logger
from neox_code.tokenizer.vocabulary_file import GPT2_FILES, TOKENIZER_JSON, find_vocabulary_files, has_version_line

log = get_logger(__name__)

MODEL_FILE = "model.yml"
TOKENIZER_KEYS = ("tokenizer_type", "vocab_file", "merge_file", "merge_file_reader", "newlines")
PATH_KEYS = ("vocab_file", "merge_file")
SENTENCEPIECE_MODEL = "tokenizer.model"
FROM_CHECKPOINT = "by the checkpoint"
"""Origin (the source shown for a value) of the keys that the checkpoint determines: tokenizer keys and `mask_padded_vocab`."""


def load_config(command_line: CommandLine) -> NeoXConfig:
    """Return the merged configuration for a run, and log the keys that have no effect.

    Raise ConfigError also for --dry-run, because only the launcher makes dry runs.
    """
    if command_line.dry_run:
        raise ConfigError(f"--dry-run belongs to the launcher. Run: {LAUNCHER} COMMAND CONFIG... --dry-run")
    config = merge_config(command_line)
    load = Path(config.training.load or "")
    if config.data.vocab_file is None and config.training.load and is_hugging_face_model(load) and not read_tokenizer_keys(load):
        names = f"{TOKENIZER_JSON}, {' with '.join(GPT2_FILES)}, or {SENTENCEPIECE_MODEL}"
        raise CheckpointError(f"{load} has no tokenizer: {names}. Copy its files there, or set vocab_file and tokenizer_type.")
    if changed := [config.format_key(key) for key, origin in config.origins.items() if origin == FROM_CHECKPOINT]:
        log.info("settings that come from the checkpoint's folder or follow GPT-NeoX's behavior: %s", ", ".join(changed))
    if keys := [entry.key for entry in config.ignored if entry.requests_feature]:
        log.info("keys that are accepted but have no effect (--dry-run lists the reasons): %s", ", ".join(keys))
    return config


def merge_config(command_line: CommandLine) -> NeoXConfig:
    """Return the configuration of a command line. Its files and options replace the keys of a model's folder.

    Raise ConfigError with all problems of the files, and CheckpointError for a folder without a model or with a vocabulary that is
    outside of the folder.
    """
    folders = [path for path in command_line.config_paths if path.is_dir()]
    if len(folders) > 1:
        raise ConfigError(f"{folders[0]} and {folders[1]} are both folders. Give one, and configuration files.")
    files = [path for path in command_line.config_paths if path not in folders]
    given = {setting.key: setting.value for setting in read_settings(files)[0]}
    given |= {key.replace("-", "_"): value for key, value in command_line.overrides.items()}
    load = given.get("load")
    if folders:
        folder, beneath = folders[0], [Setting("load", str(folders[0]), str(folders[0]))]
    elif isinstance(load, str) and "num_layers" not in given and Path(load).is_dir():
        folder, beneath = Path(load), []
    else:
        return complete_tokenizer_paths(command_line.load())
    checkpoint = find_checkpoint_with_config(folder, given)
    config = command_line.load([*beneath, *read_model_settings(checkpoint, "num_layers" in given)])
    if folders and "load" not in command_line.overrides:  # the files of a published model may name another place
        config = config.replace(str(folder), load=str(folder))
    config = complete_tokenizer_paths(config)
    root = checkpoint if checkpoint == folder and parse_iteration(folder) is None else checkpoint.parent
    for path in find_vocabulary_files(config.data).values():
        if given.keys().isdisjoint(PATH_KEYS) and is_outside_folder(path, root):
            raise CheckpointError(
                f"{folder} refers to a vocabulary outside of it ({path}). Such files are not read. Copy the vocabulary into the "
                f"folder, or use --set vocab_file={path}."
            )
    return config


def complete_tokenizer_paths(config: NeoXConfig) -> NeoXConfig:
    """Return the configuration with each missing vocabulary file replaced by the checkpoint's copy.

    GPT-NeoX's reader always skips the first line of a merge file. In a file without a `#version` line, as PolyCoder's, that line is
    a merge. A model that GPT-NeoX trained never used this merge, so for such a checkpoint the first line is skipped here too.
    """
    data, load = config.data, config.training.load
    named = {key: path for key in PATH_KEYS if (path := getattr(data, key))}
    if (
        not load
        or not named
        or not Path(load).is_dir()
        or not (reads_whole_merge_file(config) or any(map(is_missing, named.values())))
    ):
        return config
    try:
        folder = find_checkpoint(load, config.training.iteration)
    except CheckpointError:  # a run from scratch has none; other commands report it
        return config
    moved = {key: str(found) for key, path in named.items() if is_missing(path) and (found := find_vocabulary_file(path, folder))}
    config = config.replace(FROM_CHECKPOINT, **moved) if moved else config
    merges = config.data.merge_file
    if (
        reads_whole_merge_file(config)
        and merges
        and Path(merges).is_file()
        and not has_version_line(merges)
        and not is_written_by_this_package(folder)
    ):
        return config.replace(FROM_CHECKPOINT, merge_file_reader="gpt-neox")
    return config


def reads_whole_merge_file(config: NeoXConfig) -> bool:
    """Return True if `merge_file_reader` is not set: every line of the merge file is then read as a merge."""
    return config.data.tokenizer_type == "GPT2BPETokenizer" and config.origins["merge_file_reader"] == DEFAULT


def is_missing(path: str) -> bool:
    return not Path(path).exists()


def find_checkpoint_with_config(folder: Path, given: Mapping[str, Any]) -> Path:
    """Return the checkpoint in a folder: that of `iteration` if this key is in `given`, the keys set by files and options."""
    iteration = given.get("iteration")
    try:
        return find_checkpoint(folder, iteration if isinstance(iteration, int) else None)
    except CheckpointError as error:
        names = ", ".join(path.name for path in sorted(folder.glob("*.yml")))
        remedy = f"\nTo use configuration files in it ({names}), name them, or use -d {folder} and their names." if names else ""
        raise CheckpointError(f"{error}{remedy}") from None


def read_model_settings(folder: Path, is_described: bool = False) -> list[Setting]:
    """Return the settings of the model and the vocabulary of a checkpoint. Raise CheckpointError if they cannot be read.

    `is_described`: other files describe the model. Then a checkpoint without readable configuration files is no error and adds no
    settings.
    """
    if is_hugging_face_model(folder):
        keys = {**read_model_keys(folder / CONFIG_FILE), **read_tokenizer_keys(folder)}
        return [Setting(key, value, str(folder / CONFIG_FILE)) for key, value in keys.items()]
    if (folder / MODEL_FILE).is_file():
        settings, problems = read_file(folder / MODEL_FILE)
        problems += [
            f"{each.place} sets {each.key}, which no model's folder may set. Remove it."
            for each in settings
            if not is_model_key(each.key)
        ]
        if problems:
            raise CheckpointError(problems[0])
        return [Setting(each.key, resolve_vocabulary_path(each.key, each.value, folder), each.place) for each in settings]
    return list(read_run_settings(folder, is_described))


def read_run_settings(folder: Path, is_described: bool) -> Iterator[Setting]:
    """Yield the settings of the model and the vocabulary in the configuration files of a run.

    Raise CheckpointError if there are no files, or if they do not form one configuration. With `is_described` (other files describe
    the model) yield nothing in these cases.
    """
    files = find_config_files(folder)
    try:
        config = NeoXConfig.load(files) if files else None
    except ConfigError as error:
        if is_described:
            return
        names = ", ".join(path.name for path in files)
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        raise CheckpointError(
            f"{files[0].parent} cannot be read as one configuration ({names}): {reason}. "
            "If there are several models, name the files of this one after the folder, or keep them alone there."
        ) from None
    if config is None:
        if is_described:
            return
        raise CheckpointError(f"{folder} has no folder `configs` with its configuration. Give its configuration files.")
    for key, value in config.values().items():
        if config.origins[key] != DEFAULT and is_model_key(key):
            yield Setting(key, resolve_vocabulary_path(key, value, folder), config.origins[key])


def is_model_key(key: str) -> bool:
    """Return True for a key of the model or of its vocabulary. A model's folder may set only these keys."""
    return (key in FIELDS and FIELDS[key].section == "model") or key in TOKENIZER_KEYS


def read_tokenizer_keys(folder: Path) -> dict[str, str]:
    """Return the tokenizer keys for the vocabulary files in a Hugging Face folder; {} if it has no vocabulary files."""
    if (folder / TOKENIZER_JSON).is_file():
        return {"tokenizer_type": "HFTokenizer", "vocab_file": str(folder / TOKENIZER_JSON)}
    if all((folder / name).is_file() for name in GPT2_FILES):
        vocabulary, merges = (str(folder / name) for name in GPT2_FILES)
        return {"tokenizer_type": "GPT2BPETokenizer", "vocab_file": vocabulary, "merge_file": merges}
    if (folder / SENTENCEPIECE_MODEL).is_file():
        return {"tokenizer_type": "SPMTokenizer", "vocab_file": str(folder / SENTENCEPIECE_MODEL)}
    return {}


def resolve_vocabulary_path(key: str, value: Any, folder: Path) -> Any:
    """Return the value of a key. If the value names a vocabulary file in or near the checkpoint, return that file's path."""
    if key not in PATH_KEYS or not isinstance(value, str):
        return value
    return str(find_vocabulary_file(value, folder) or value)


def find_vocabulary_file(path: str, folder: Path) -> Path | None:
    """Find the vocabulary file that `path` names: the copy in the checkpoint, else a file near the checkpoint, else None."""
    named, places = Path(path), ("", "data", "Data", "configs")
    beside = [(base / place / named.name) for base in (folder, folder.parent) for place in places]
    as_named = [] if named.is_absolute() else [base / named for base in (folder, folder.parent)]
    further = [folder.parent.parent / place / named.name for place in ("data", "Data")]
    candidates = [folder / VOCABULARY_FOLDER / named.name, *as_named, *beside, *further]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def make_model_file(config: NeoXConfig) -> bytes:
    """Return the content of model.yml: the keys of model and vocabulary that differ from their defaults, with relative paths."""
    values = config.values()
    names = {str(path): name for name, path in find_vocabulary_files(config.data).items()}
    chosen = {key: to_yaml(values[key]) for key, field in FIELDS.items() if is_model_key(key) and values[key] != field.default}
    for key in PATH_KEYS:
        if chosen.get(key) in names:
            chosen[key] = f"{VOCABULARY_FOLDER}/{names[chosen[key]]}"
    text = yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True)
    return f"# The model beside this file; paths are relative to it.\n{text}".encode()
