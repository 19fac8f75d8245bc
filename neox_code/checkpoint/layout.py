"""Every file name in a checkpoint, as functions, and nowhere else. The layout is GPT-NeoX's.

    SAVE/latest                                   text: "global_step1000"
    SAVE/configs/NAME.yml                         the configuration files of the run; merged.yml has them all in one
    SAVE/global_step1000/
        configs/NAME.yml                          the same, at the time of this checkpoint
        layer_LL-model_TT-model_states.pt         weights of layer LL on tensor rank TT        (pipe_parallel_size >= 1)
        mp_rank_MM_model_states.pt                training state; without a pipeline also all weights of tensor rank MM
        [bf16_]zero_pp_rank_D_mp_rank_MM_optim_states.pt    optimizer state of data rank D

Layer numbers are those of model.gpt: 00 embedding, 02 to L+1 blocks, L+3 final norm, L+4 head.
"""

import re
from pathlib import Path

from neox_code.errors import CheckpointError
from neox_code.files import PARTIAL_SUFFIX, numbered_folders

STEP_PREFIX = "global_step"
LAYER_FILE = re.compile(r"layer_(\d+)-model_(\d+)-model_states\.pt")
MODEL_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt")

MERGED_CONFIG = "merged.yml"
"""Beside the copies of the run's own files: the whole configuration in one, command line included."""


def latest_file(save: str | Path) -> Path:
    return Path(save) / "latest"


def step_name(iteration: int) -> str:
    """
    >>> step_name(1000)
    'global_step1000'
    """
    return f"{STEP_PREFIX}{iteration}"


def partial_step_name(iteration: int) -> str:
    """The folder's name until every rank has written its part."""
    return f"{step_name(iteration)}{PARTIAL_SUFFIX}"


def replaced_step_name(iteration: int) -> str:
    """The name of an earlier folder of the same iteration from the moment that its place is taken until it is deleted."""
    return f"{step_name(iteration)}.replaced{PARTIAL_SUFFIX}"


def layer_file(folder: Path, layer_index: int, tensor_rank: int) -> Path:
    """
    >>> layer_file(Path("global_step10"), 2, 0).name
    'layer_02-model_00-model_states.pt'
    """
    return folder / f"layer_{layer_index:02d}-model_{tensor_rank:02d}-model_states.pt"


def model_file(folder: Path, model_rank: int) -> Path:
    return folder / f"mp_rank_{model_rank:02d}_model_states.pt"


def layer_files(folder: Path) -> dict[tuple[int, int], Path]:
    """The weight files that are there, by layer index and tensor rank."""
    matches = ((LAYER_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return {(int(match[1]), int(match[2])): entry for match, entry in matches if match}


def model_files(folder: Path) -> dict[int, Path]:
    """The model state files that are there, by model-parallel rank."""
    matches = ((MODEL_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return {int(match[1]): entry for match, entry in matches if match}


def checkpoints(save: str | Path) -> dict[int, Path]:
    """Iteration -> folder, ascending; unfinished ones do not count."""
    return numbered_folders(save, STEP_PREFIX)


def is_ours(folder: Path) -> bool:
    """True for a checkpoint of this package, which has the run's merged configuration beside it; False for one of GPT-NeoX's."""
    return any((place / "configs" / MERGED_CONFIG).is_file() for place in (folder, folder.parent))


def find_checkpoint(load: str | Path, iteration: int | None = None) -> Path:
    """The folder of the wanted iteration, or of the latest. Raises CheckpointError with what there is instead."""
    load = Path(load)
    there = checkpoints(load)
    if not there and not latest_file(load).exists():
        raise CheckpointError(
            f"load ({load}) holds no checkpoint: there is no file latest and no folder global_step* in it. "
            "Set load to the folder that the model was saved to."
        )
    choices = f"There are iterations {', '.join(map(str, there))}." if there else "No folder global_step* is there."
    if iteration is not None:
        if iteration not in there:
            raise CheckpointError(f"{load} holds no checkpoint of iteration {iteration}. {choices}")
        return there[iteration]
    if not latest_file(load).exists():
        raise CheckpointError(f"load ({load}) has no file latest, which names the checkpoint. {choices} Choose one by --iteration.")
    name = latest_file(load).read_text(encoding="utf-8").strip()
    folder = load / name
    if not name or Path(name).name != name or not folder.is_dir():
        raise CheckpointError(
            f"{latest_file(load)} names {name!r}, which is not a folder in {load}. {choices} Choose one by --iteration."
        )
    return folder
