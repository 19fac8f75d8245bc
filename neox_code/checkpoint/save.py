"""Writing a checkpoint: all ranks into a folder under another name, then one rename, then `latest`.

Killed at any moment, there is the last whole checkpoint and at most one partial folder, which the next save removes. A step that
is saved again takes the earlier folder's place in two renames, with nothing between them.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepspeed import DeepSpeedEngine

from neox_code.checkpoint.buffers import written_with_buffers
from neox_code.checkpoint.engine_files import WeightsOnlyEngine
from neox_code.checkpoint.layout import STEP_PREFIX, latest_file, partial_step_name, replaced_step_name, step_name
from neox_code.checkpoint.retention import delete_old
from neox_code.files import PARTIAL_SUFFIX, write_text
from neox_code.logs import is_rank_zero
from neox_code.parallel.collectives import barrier


def save_checkpoint(
    engine: DeepSpeedEngine,
    save: str | Path,
    iteration: int,
    state: Mapping[str, Any],
    config_files: Sequence[tuple[str, str]],
    keep_last: int | None = None,
) -> Path:
    """Writes `global_stepN` of a DeepSpeed engine, with `state` as its client state. Called on every rank; returns the folder.

    `config_files` are (name, text) of the run's configuration. Raises CheckpointError when a file cannot be written;
    earlier checkpoints and `latest` stay as they were.
    """
    save = Path(save)
    folder, partial = save / step_name(iteration), save / partial_step_name(iteration)
    if is_rank_zero():
        delete_leftovers(save)
        write_configs(save / "configs", config_files)
    barrier()
    engine.checkpoint_engine = WeightsOnlyEngine(engine._config)
    try:
        with written_with_buffers(engine.module):
            engine.save_checkpoint(str(save), tag=partial.name, client_state=dict(state), save_latest=False)
    except BaseException:
        if is_rank_zero():  # the other ranks' failures leave it to the next save: some may be writing yet
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if is_rank_zero():
        write_configs(partial / "configs", config_files)
        if folder.exists():
            folder.rename(save / replaced_step_name(iteration))
        partial.rename(folder)
        write_text(latest_file(save), step_name(iteration) + "\n")
        delete_leftovers(save)
        delete_old(save, iteration, keep_last)
    barrier()
    return folder


def delete_leftovers(save: Path) -> None:
    """Removes what a save, killed or not, has left under names of its own."""
    for leftover in save.glob(f"{STEP_PREFIX}*{PARTIAL_SUFFIX}"):
        shutil.rmtree(leftover)


def write_configs(folder: Path, config_files: Sequence[tuple[str, str]]) -> None:
    for name, text in config_files:
        write_text(folder / name, text)
