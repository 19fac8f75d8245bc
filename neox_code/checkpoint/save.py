"""Write a checkpoint while training continues: all ranks write to a partial folder, which is renamed, and `latest` is replaced.

    pending = PendingSave(files, grid, save, record, companions, keep_last)    # on every rank; files: name -> state dict
    pending.snapshot.wait()          # before the tensors in `files` change
    pending.finish()                 # wait until the checkpoint is complete; raise SaveFailure if it is not

A thread of each rank copies the rank's tensors to host memory, writes its files, and reports their checksums to rank 0 over
torch.distributed's store. The thread of rank 0 then makes the folder a checkpoint, and reports the outcome to the others.

After a kill at any moment, the last complete checkpoint exists, and at most one partial folder, which the next save removes. The
new text of `latest` is on the disk before the folder is renamed, so that `finish_interrupted_save` can complete a save that was
killed between the two renames. An existing folder is never replaced, because it belongs to another run. Each step is on the disk
before the next begins: the files and folders of every rank, the rename, `latest`, the deletion of older checkpoints. So `latest`
names a complete checkpoint after a power loss too.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from neox_code.checkpoint.checksums import compute_checksum
from neox_code.checkpoint.layer_writer import copy_shared_storage
from neox_code.checkpoint.layout import BEST_LINK, STEP_PREFIX, get_latest_path, make_partial_step_name, make_step_name
from neox_code.checkpoint.record import BEST_ITERATION, RunRecord, write_record
from neox_code.checkpoint.retention import delete_old_checkpoints
from neox_code.checkpoint.serialization import save_file
from neox_code.checkpoint.snapshot import Snapshot
from neox_code.errors import CheckpointError
from neox_code.files import PARTIAL_SUFFIX, atomic_file, sync
from neox_code.logs import get_logger
from neox_code.parallel.grid import ParallelGrid

log = get_logger(__name__)

POLL_SECONDS = 0.05


class SaveFailure(CheckpointError):
    """A checkpoint could not be written, for example on a full disk. Training may continue."""


class PendingSave:
    """A checkpoint that is being written. Create it on every rank, after `prepare_save` on rank 0 and with the partial folder."""

    def __init__(
        self,
        files: Mapping[str, Any],
        grid: ParallelGrid,
        save: str | Path,
        record: RunRecord,
        companions: Mapping[str, bytes],
        keep_last: int | None = None,
        then: Callable[[Path], None] = lambda folder: None,
    ):
        """`files` are this rank's files: name -> state dict. `companions` are configuration and vocabulary files: path -> content.

        On rank 0 `then` is called with the folder of the complete checkpoint.
        """
        self.save, self.record, self.companions, self.keep_last, self.then = Path(save), record, companions, keep_last, then
        self.folder = self.save / make_step_name(record.iteration)
        self.partial = self.save / make_partial_step_name(record.iteration)
        self.snapshot = Snapshot(files)
        self.messages = Messages(grid, record.iteration)
        self.error: str | None = None
        self.seconds = 0.0
        self.thread = threading.Thread(target=self.run, name="save", daemon=True)
        self.thread.start()

    def finish(self, timeout_seconds: float | None = None) -> Path:
        """Wait until the checkpoint is complete and return its folder.

        Raise SaveFailure if a file could not be written on some rank, with its reason; earlier checkpoints and `latest` are then
        unchanged. The outcome is the same on all ranks.
        """
        self.thread.join(timeout_seconds)
        if self.thread.is_alive():
            raise SaveFailure(f"{self.partial} is not complete after {timeout_seconds:g} s. Earlier checkpoints are unchanged.")
        if self.error is not None:
            raise SaveFailure(self.error)
        return self.folder

    def run(self) -> None:
        """Write this rank's files and complete the checkpoint together with the other ranks."""
        begin = time.monotonic()
        try:
            checksums, error = self.write_files(), None
        except Exception as failure:
            checksums, error = {}, describe_failure(failure, self.partial)
        finally:
            self.snapshot.copied.set()
        try:
            self.error = self.messages.exchange({"checksums": checksums, "error": error}, self.complete)
        except Exception as failure:  # the rank that keeps the store has ended
            self.error = error or describe_failure(failure, self.partial)
        self.seconds = time.monotonic() - begin

    def write_files(self) -> dict[str, str]:
        """Write this rank's files. Return their checksums by name."""
        self.snapshot.copy()
        checksums = {}
        for name in list(self.snapshot.files):
            content = self.snapshot.files.pop(name) if self.snapshot.has_copies else separate(self.snapshot.files[name])
            save_file(content, self.partial / name)
            checksums[name] = compute_checksum(self.partial / name)
        sync(self.partial)  # the names of this host's files: rank zero may be on another
        return checksums

    def complete(self, reports: list[dict[str, Any]]) -> str | None:
        """Make the partial folder a checkpoint, on rank 0, after the reports of all ranks. Return the reason of a failure."""
        error = next((report["error"] for report in reports if report["error"]), None)
        try:
            if error is None:
                checksums = {name: value for report in reports for name, value in report["checksums"].items()}
                write_companion_files(self.partial, self.companions)
                write_record(self.partial, self.record, checksums)
                sync(self.partial)
                publish(self.save, self.partial, self.folder)
        except Exception as failure:
            error = describe_failure(failure, self.partial)
        if error is not None:
            shutil.rmtree(self.partial, ignore_errors=True)
            return error
        try:
            best = int(self.record.state.get(BEST_ITERATION, 0)) if self.record.config.get("keep_best_checkpoint") else None
            delete_old_checkpoints(self.save, self.record.iteration, self.keep_last, best)
            if best == self.record.iteration:
                link_best(self.save, self.folder)
        except OSError as failure:
            log.warning("older checkpoints in %s were not deleted: %s", self.save, failure)
        self.then(self.folder)
        return None


class Messages:
    """Reports of all ranks to rank 0, and its answer, in torch.distributed's store. No collective operation is used."""

    def __init__(self, grid: ParallelGrid, iteration: int):
        self.rank, self.world_size = grid.rank, grid.world_size
        self.prefix = f"neox_code/saves/{iteration}"
        if self.world_size > 1:
            default_store: Any = dist.distributed_c10d._get_default_store()
            self.store = default_store.clone()  # an own connection: no call waits for another thread's
            self.store.set_timeout(timedelta(days=1))

    def exchange(self, report: Mapping[str, Any], answer: Callable[[list[dict[str, Any]]], str | None]) -> str | None:
        """Return what `answer` returns on rank 0 for the reports of all ranks."""
        if self.world_size == 1:
            return answer([dict(report)])
        own, result = f"{self.prefix}/{self.rank}", f"{self.prefix}/outcome"
        if self.rank > 0:
            self.store.set(own, json.dumps(report))
            outcome = json.loads(self.poll(result))
            self.store.add(f"{self.prefix}/read", 1)
            return outcome
        others = [f"{self.prefix}/{rank}" for rank in range(1, self.world_size)]
        outcome = answer([dict(report), *(json.loads(self.poll(key)) for key in others)])
        self.store.set(result, json.dumps(outcome))
        while self.store.add(f"{self.prefix}/read", 0) < len(others):
            time.sleep(POLL_SECONDS)
        for key in (*others, result, f"{self.prefix}/read"):
            self.store.delete_key(key)
        return outcome

    def poll(self, key: str) -> bytes:
        while not self.store.check([key]):
            time.sleep(POLL_SECONDS)
        return self.store.get(key)


def separate(value: Any) -> Any:
    """Return the value with a copy of each tensor that is a part of a larger storage."""
    if hasattr(value, "untyped_storage"):
        return copy_shared_storage(value.detach())
    if isinstance(value, dict):
        return {name: separate(inner) for name, inner in value.items()}
    return type(value)(map(separate, value)) if type(value) in (list, tuple) else value


def describe_failure(failure: Exception, folder: Path) -> str:
    """Return a sentence about a failed save."""
    return str(failure) if isinstance(failure, CheckpointError) else f"{folder} could not be written: {failure}. {UNCHANGED}"


UNCHANGED = "Free disk space, or choose another folder for save. Earlier checkpoints are unchanged."


def publish(save: Path, partial: Path, folder: Path) -> None:
    """Rename a complete partial folder, and make `latest` name it."""
    with atomic_file(get_latest_path(save)) as latest:
        latest.write(folder.name + "\n")
        latest.flush()
        os.fsync(latest.fileno())
        partial.rename(folder)
        sync(save)


def link_best(save: Path, folder: Path) -> None:
    """Make the link SAVE/best lead to a checkpoint."""
    new = save / f"{BEST_LINK}{PARTIAL_SUFFIX}"
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name)
    new.replace(save / BEST_LINK)


def delete_leftovers(save: Path) -> None:
    """Remove the partial folders of earlier saves."""
    for leftover in save.glob(f"{STEP_PREFIX}*{PARTIAL_SUFFIX}"):
        shutil.rmtree(leftover)


def prepare_save(save: str | Path, iteration: int, companions: Mapping[str, bytes]) -> None:
    """Remove leftovers of earlier saves, write the run's configuration to SAVE/configs, and create the partial folder, on rank 0.

    Raise CheckpointError if the checkpoint's folder exists, SaveFailure if something cannot be written.
    """
    save = Path(save)
    folder = save / make_step_name(iteration)
    if folder.exists():
        raise CheckpointError(f"{folder} was written by another run meanwhile and is not replaced. Give each run its own save.")
    try:
        delete_leftovers(save)
        write_companion_files(save, {name: content for name, content in companions.items() if name.startswith("configs/")})
        sync(save.absolute().parent)
        (save / make_partial_step_name(iteration)).mkdir()
    except OSError as error:
        raise SaveFailure(describe_failure(error, save)) from None


def write_companion_files(folder: Path, companions: Mapping[str, bytes]) -> None:
    """Write configuration and vocabulary files, unless they have this content already: a write waits for the disk."""
    for name, content in companions.items():
        path = folder / name
        if not (path.is_file() and path.read_bytes() == content):
            with atomic_file(path, "wb") as file:
                file.write(content)
