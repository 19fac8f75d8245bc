"""Write a checkpoint: all ranks write to a partial folder, the folder is renamed, and then `latest` is replaced.

After a kill at any moment, the last complete checkpoint exists, and at most one partial folder, which the next save removes. The
new text of `latest` is on the disk before the folder is renamed, so that `finish_interrupted_save` can complete a save that was
killed between the two renames. An existing folder is never replaced, because it belongs to another run. Each step is on the disk
before the next begins: the files and folders of every rank, the rename, `latest`, the deletion of older checkpoints. So `latest`
names a complete checkpoint after a power loss too.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepspeed import DeepSpeedEngine

from neox_code.checkpoint.buffers import add_gpt_neox_entries
from neox_code.checkpoint.engine_files import WeightsOnlyEngine
from neox_code.checkpoint.layout import STEP_PREFIX, get_latest_path, make_partial_step_name, make_step_name
from neox_code.checkpoint.record import RunRecord, write_record
from neox_code.checkpoint.retention import delete_old_checkpoints
from neox_code.errors import CheckpointError
from neox_code.files import PARTIAL_SUFFIX, atomic_file, sync
from neox_code.logs import is_rank_zero
from neox_code.parallel.collectives import barrier, run_on_rank_zero
from neox_code.parallel.grid import ParallelGrid


def save_checkpoint(
    engine: Any,
    grid: ParallelGrid,
    save: str | Path,
    state: Mapping[str, Any],
    record: RunRecord,
    companions: Mapping[str, bytes],
    keep_last: int | None = None,
) -> Path:
    """Write the folder `global_stepN`, N being the record's iteration, and return it. Call this function on every rank.

    `state` is the training state. `companions` are configuration and vocabulary files: path in the folder -> content. Raise
    CheckpointError if a file cannot be written or the folder exists; earlier checkpoints and `latest` are then unchanged.
    """
    save, iteration = Path(save), record.iteration
    folder, partial = save / make_step_name(iteration), save / make_partial_step_name(iteration)
    run_on_rank_zero(lambda: prepare_save(save, folder, companions))
    engine.checkpoint_engine = WeightsOnlyEngine(engine._config if isinstance(engine, DeepSpeedEngine) else None)
    engine._copy_recovery_script = lambda save_path: None  # DeepSpeed's own converters, which do not read these layouts
    try:
        with add_gpt_neox_entries(engine.module, grid):
            engine.save_checkpoint(str(save), tag=partial.name, client_state=dict(state), save_latest=False)
        sync(partial)  # the names of this host's files: rank zero may be on another
        barrier()
    except BaseException:
        if is_rank_zero():  # the other ranks' failures leave it to the next save: some may be writing yet
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if is_rank_zero():
        write_companion_files(partial, companions)
        write_record(partial, record)
        sync(partial)
        with atomic_file(get_latest_path(save)) as latest:
            latest.write(make_step_name(iteration) + "\n")
            latest.flush()
            os.fsync(latest.fileno())
            partial.rename(folder)
            sync(save)
        delete_old_checkpoints(save, iteration, keep_last)
    barrier()
    return folder


def delete_leftovers(save: Path) -> None:
    """Remove the partial folders of earlier saves."""
    for leftover in save.glob(f"{STEP_PREFIX}*{PARTIAL_SUFFIX}"):
        shutil.rmtree(leftover)


def prepare_save(save: Path, folder: Path, companions: Mapping[str, bytes]) -> None:
    """Remove leftovers of earlier saves and write the run's configuration to SAVE/configs."""
    if folder.exists():
        raise CheckpointError(f"{folder} was written by another run meanwhile and is not replaced. Give each run its own save.")
    delete_leftovers(save)
    write_companion_files(save, {name: content for name, content in companions.items() if name.startswith("configs/")})
    sync(save.absolute().parent)


def write_companion_files(folder: Path, companions: Mapping[str, bytes]) -> None:
    for name, content in companions.items():
        with atomic_file(folder / name, "wb") as file:
            file.write(content)
