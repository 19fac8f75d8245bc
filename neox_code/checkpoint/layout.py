"""All file names in a checkpoint, as functions. The layout is GPT-NeoX's.

    SAVE/latest                                   text: "global_step1000"
    SAVE/configs/NAME.yml                         the configuration files of the run; merged.yml has them all in one
    SAVE/adapter/                                 the newest adapter, of a run that trains one
    SAVE/.train.lock                              held by the run that writes here
    SAVE/global_step1000/
        configs/NAME.yml                          the same, at the time of this checkpoint
        run.json                                  the record of the run, compared at a resume: see checkpoint.record
        tokenizer/NAME                            the files of the vocabulary
        adapter/                                  an adapter in PEFT's format, instead of weights: only what was added to a base
        huggingface/                              the same model for transformers and vLLM, with `save_huggingface`
        layer_LL-model_TT-model_states.pt         weights of layer LL on tensor rank TT        (pipe_parallel_size >= 1)
        mp_rank_MM_model_states.pt                training state; without a pipeline also all weights of tensor rank MM
        zero_pp_rank_D_mp_rank_MM_model_states.pt           with ZeRO stage 3: training state; the weights are in the next
        [bf16_]zero_pp_rank_D_mp_rank_MM_optim_states.pt    optimizer state of data rank D
        zero/NAME/fp32.pt, exp_avg.pt, ..., step.pt         DeepSpeed's universal format: see checkpoint.universal

Layer numbers are those of model.gpt: 00 embedding, 02 to L+1 blocks, L+3 final norm, L+4 head.
"""

import os
import re
from pathlib import Path

from neox_code.config.hugging_face import CONFIG_FILE
from neox_code.errors import CheckpointError
from neox_code.files import PARTIAL_SUFFIX, find_numbered_folders
from neox_code.logs import get_logger

log = get_logger(__name__)

STEP_PREFIX = "global_step"
LAYER_FILE = re.compile(r"layer_(\d+)-model_(\d+)-model_states\.pt")
MODEL_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt")
OPTIMIZER_FILE = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt")
ZERO_3_FILE = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")

WHOLE_MODEL_NAME = re.compile(r"(?:sequential\.)?(\d+)\.(.+)")
"""Pattern of a parameter's name in a whole model. Its groups are the layer index and the name within the layer."""

MOST_NAME_BYTES = 1000
"""Maximum number of bytes that are read from the file `latest`; no folder has a longer name."""

RUN_RECORD = "run.json"
UNIVERSAL_FOLDER = "zero"
VOCABULARY_FOLDER = "tokenizer"
ADAPTER_FOLDER, ADAPTER_CONFIG = "adapter", "adapter_config.json"
HUGGING_FACE_FOLDER = "huggingface"
TRAINING_LOCK = ".train.lock"

BEST_LINK = "best"
"""Link in `save` to the checkpoint with the lowest loss of validation (`keep_best_checkpoint`)."""

MERGED_CONFIG = "merged.yml"
"""File with the whole merged configuration, command line included, beside the copies of the run's files."""


def get_latest_path(save: str | Path) -> Path:
    return Path(save) / "latest"


def make_step_name(iteration: int) -> str:
    """Return the folder name of an iteration's checkpoint.

    >>> make_step_name(1000)
    'global_step1000'
    """
    return f"{STEP_PREFIX}{iteration}"


def make_partial_step_name(iteration: int) -> str:
    """Return the temporary name that a checkpoint's folder has while the ranks write to it."""
    return f"{make_step_name(iteration)}{PARTIAL_SUFFIX}"


def get_layer_path(folder: Path, layer_index: int, tensor_rank: int) -> Path:
    """Return the path of the weight file of a layer on a tensor rank.

    >>> get_layer_path(Path("global_step10"), 2, 0).name
    'layer_02-model_00-model_states.pt'
    """
    return folder / f"layer_{layer_index:02d}-model_{tensor_rank:02d}-model_states.pt"


def model_file(folder: Path, model_rank: int) -> Path:
    return folder / f"mp_rank_{model_rank:02d}_model_states.pt"


def get_optimizer_path(folder: Path, data_rank: int, model_rank: int, is_bf16: bool) -> Path:
    """Return the path of a rank's optimizer state file.

    >>> get_optimizer_path(Path("global_step10"), 1, 0, True).name
    'bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt'
    """
    return folder / f"{'bf16_' if is_bf16 else ''}zero_pp_rank_{data_rank}_mp_rank_{model_rank:02d}_optim_states.pt"


def list_layer_files(folder: Path) -> dict[tuple[int, int], Path]:
    """Return (layer index, tensor rank) -> weight file, for the existing files."""
    matches = ((LAYER_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return {(int(match[1]), int(match[2])): entry for match, entry in matches if match}


def list_model_files(folder: Path) -> dict[int, Path]:
    """Return model-parallel rank -> model state file, for the existing files."""
    matches = ((MODEL_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return {int(match[1]): entry for match, entry in matches if match}


def list_optimizer_files(folder: Path) -> dict[tuple[int, int], Path]:
    """Return (data rank, model-parallel rank) -> optimizer state file. Model-parallel rank: stage * tensor size + tensor rank."""
    matches = ((OPTIMIZER_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return {(int(match[1]), int(match[2])): entry for match, entry in matches if match}


def is_universal(folder: Path) -> bool:
    """Return True if the optimizer state of the checkpoint is in DeepSpeed's universal format."""
    return (folder / UNIVERSAL_FOLDER).is_dir()


def has_zero_3_files(folder: Path) -> bool:
    """Return True if ZeRO stage 3 wrote the checkpoint. Its weights are then divided over the files of the data ranks."""
    return any(ZERO_3_FILE.fullmatch(entry.name) for entry in folder.iterdir())


def require_whole_weights(folder: Path) -> None:
    """Raise CheckpointError if ZeRO stage 3 wrote the checkpoint, because its weights cannot be read without optimizer state."""
    if has_zero_3_files(folder):
        raise CheckpointError(
            f"{folder} was written with zero_optimization.stage 3, which divides the weights over the data ranks' files: they "
            "cannot be loaded without the optimizer state. Only the same run can resume: set zero_optimization.stage to 3, use the "
            "same number of ranks, and remove finetune and no_load_optim."
        )


def is_adapter_checkpoint(folder: Path) -> bool:
    """Return True if a checkpoint holds only what was added to a base."""
    return (folder / ADAPTER_FOLDER / ADAPTER_CONFIG).is_file()


def list_checkpoints(save: str | Path) -> dict[int, Path]:
    """Return iteration -> folder of the finished checkpoint, ascending."""
    return find_numbered_folders(save, STEP_PREFIX)


def is_written_by_this_package(folder: Path) -> bool:
    """Return True if this package wrote the checkpoint. Only this package stores a merged configuration; GPT-NeoX does not."""
    return any((place / "configs" / MERGED_CONFIG).is_file() for place in (folder, folder.parent))


def find_config_files(folder: Path) -> list[Path]:
    """Return the configuration files of a checkpoint: only merged.yml if it exists, else all *.yml.

    The folder `configs` of the checkpoint is searched first, then the folder `configs` of the whole run.
    """
    has_run = parse_iteration(folder) is not None or get_latest_path(folder.parent).exists()
    for place in (folder / "configs", *([folder.parent / "configs"] if has_run else [])):
        merged = place / MERGED_CONFIG
        if files := [merged] if merged.is_file() else sorted(place.glob("*.yml")):
            return files
    return []


def find_configuration(folder: Path) -> Path:
    """Return the file or the folder with a checkpoint's configuration, for messages."""
    if is_hugging_face_model(folder):
        return folder / CONFIG_FILE
    return next((path.parent for path in find_config_files(folder)), folder / "configs")


def parse_iteration(folder: Path) -> int | None:
    """Return N for the folder global_stepN, None for a folder of another name.

    >>> parse_iteration(Path("checkpoints/global_step1000")), parse_iteration(Path("checkpoints/best"))
    (1000, None)
    """
    number = folder.name.removeprefix(STEP_PREFIX)
    return int(number) if folder.name.startswith(STEP_PREFIX) and number.isdecimal() else None


def read_latest(load: Path) -> Path | None:
    """Return the folder in `load` that the file `latest` names; None if the file is missing or the folder does not exist.

    `latest` may also be a symbolic link to the folder.
    """
    if get_latest_path(load).is_dir():
        target = get_latest_path(load).resolve()
        return load / target.name if target.parent == load.resolve() else None
    if not get_latest_path(load).is_file():
        return None
    with get_latest_path(load).open("rb") as file:
        name = file.read(MOST_NAME_BYTES).decode(errors="replace").strip()
    return next((entry for entry in load.iterdir() if entry.name == name and entry.is_dir()), None)


def find_checkpoint(load: str | Path, iteration: int | None = None) -> Path:
    """Return the checkpoint folder of `iteration`. Without an iteration, return the folder that `latest` names, else the newest.

    If `load` is itself a checkpoint or a Hugging Face model, return `load`. Raise CheckpointError if there is no such checkpoint;
    the message lists the existing iterations.
    """
    load = Path(load)
    if iteration is None and load.is_dir() and (is_hugging_face_model(load) or list_layer_files(load) or list_model_files(load)):
        return load
    there = list_checkpoints(load)
    choices = f"There are iterations {', '.join(map(str, there))}." if there else describe_folder(load)
    if iteration is not None:
        if iteration not in there:
            raise CheckpointError(
                f"{load} has no checkpoint of iteration {iteration}. {choices} Choose another, or check the path."
            )
        return there[iteration]
    if folder := read_latest(load):
        return folder
    latest = get_latest_path(load)
    reason = f"{latest} names no folder in {load}" if latest.exists() else f"there is no file {latest}"
    if not there:
        raise CheckpointError(f"load ({load}) holds no checkpoint: {reason}. {describe_folder(load)} Check the path.")
    log.warning("%s: using the newest checkpoint, %s", reason, there[max(there)])
    return there[max(there)]


def is_outside_folder(path: Path, folder: Path) -> bool:
    """Follow links and return True if the path is outside of the model's folder and of the Hugging Face cache that holds it."""
    if "\0" in str(path):  # no path
        return True
    target, inside = (Path(os.path.realpath(place)) for place in (path, folder))  # `resolve` raises for a loop
    cache = inside.parent.parent / "blobs" if inside.parent.name == "snapshots" else inside
    return not any(target.is_relative_to(place) for place in (inside, cache))


def is_hugging_face_model(load: Path) -> bool:
    """Return True if a folder holds a model in the layout of Hugging Face."""
    return load.is_dir() and (load / CONFIG_FILE).is_file() and any(True for name in HUGGING_FACE_WEIGHTS for _ in load.glob(name))


def describe_folder(load: Path) -> str:
    """Return a sentence for an error message about the content of a folder that has no checkpoints."""
    if not load.is_dir():
        return f"{load} is {'no folder' if load.exists() else 'missing'}."
    if any(True for name in HUGGING_FACE_WEIGHTS for _ in load.glob(name)):
        return f"It has weights of Hugging Face and no {CONFIG_FILE}."
    if (load / CONFIG_FILE).is_file():
        return f"It has a {CONFIG_FILE} of Hugging Face and no weights ({', '.join(HUGGING_FACE_WEIGHTS)})."
    return f"It has no folder {STEP_PREFIX}N."


HUGGING_FACE_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
