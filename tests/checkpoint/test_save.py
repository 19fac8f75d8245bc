"""What a save leaves, and in which order it reaches the disk: after a power loss `latest` names a whole checkpoint."""

import os
import sys
import time
from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of, run_ranks, train

from neox_code.checkpoint.layout import (
    RUN_RECORD,
    TRAINING_LOCK,
    VOCABULARY_FOLDER,
    get_latest_path,
    make_partial_step_name,
    make_step_name,
)
from neox_code.checkpoint.model_folder import MODEL_FILE

Event = tuple[int, str, str, int]
"""Time in nanoseconds, kind, path, and the size of a file that is synchronized."""


def train_recorded(files: list[str], overrides: dict[str, object]) -> list[Event]:
    """Train on this rank, and record what is synchronized with the disk, renamed and deleted."""
    events: list[Event] = []
    fsync = os.fsync

    def record_fsync(descriptor: int) -> None:
        fsync(descriptor)
        events.append(
            (time.monotonic_ns(), "sync", str(Path(f"/proc/self/fd/{descriptor}").readlink()), os.fstat(descriptor).st_size)
        )

    def record(event: str, arguments: tuple) -> None:
        if event in ("os.rename", "shutil.rmtree"):
            events.append((time.monotonic_ns(), event, str(arguments[event == "os.rename"]), 0))

    os.fsync = record_fsync
    sys.addaudithook(record)
    train(files, overrides)
    return events


LAYOUTS = {
    "pipeline": {"pipe_parallel_size": 2},
    "plain": {"pipe_parallel_size": 0, "precision": "bfloat16"},
    "ZeRO-2": {"pipe_parallel_size": 0, "zero_optimization": {"stage": 2}},
}
FURTHER_LAYOUTS = {
    "tensor": {"model_parallel_size": 2, "precision": "bfloat16"},
    "ZeRO-3": {"pipe_parallel_size": 0, "precision": "bfloat16", "zero_optimization": {"stage": 3}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_file_is_on_the_disk_before_a_file_that_refers_to_it(job, tmp_path, layout):
    save = tmp_path / "save"
    file = job(train_iters=2, checkpoint_factor=1, keep_last_n_checkpoints=1, eval_iters=0, **LAYOUTS[layout])
    events = sorted(event for events in run_ranks(2, train_recorded, [str(file)], {"save": str(save)}) for event in events)

    def times(kind: str, path: Path, size: int | None = None) -> list[int]:
        return [at for at, what, name, length in events if (what, name) == (kind, str(path)) and size in (None, length)]

    folder, partial, latest = save / make_step_name(2), save / make_partial_step_name(2), get_latest_path(save)
    (named,) = times("os.rename", folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".pt"]) >= 3
    written = []
    for path in files:
        place = partial / path.relative_to(folder)
        places = (place, place.with_name(f"{path.name}.partial"))
        whole = [at for name in places for at in times("sync", name, path.stat().st_size)]
        assert whole, f"{path} was not synchronized"
        written.append(whole[0])
    assert max(written) < times("sync", partial)[-1] < named
    is_current = times("os.rename", latest)[-1]
    assert [at for at in times("sync", save) if named < at < is_current]
    assert [at for at in times("sync", save / "latest.partial") if named < at < is_current]
    (deleted,) = times("os.rename", save / make_partial_step_name(1))
    assert deleted < times("shutil.rmtree", save / make_partial_step_name(1))[-1]
    assert [at for at in times("sync", save) if is_current < at < deleted]
    assert latest.read_text() == "global_step2\n"


@pytest.mark.parametrize("layout", LAYOUTS | FURTHER_LAYOUTS)
def test_a_save_leaves_weights_optimizer_state_and_configuration_and_nothing_else(job, tmp_path, layout):
    save = tmp_path / "save"
    keys = (LAYOUTS | FURTHER_LAYOUTS)[layout]
    losses_of(2, job(train_iters=1, eval_iters=0, data_cache_path=str(tmp_path / "cache"), **keys), save)
    assert {path.name for path in save.iterdir()} == {
        "configs",
        "data_order.jsonl",
        "global_step1",
        "latest",
        "metrics.jsonl",
        TRAINING_LOCK,
    }
    patterns = ("layer_*-model_*-model_states.pt", "*mp_rank_*_model_states.pt", "*zero_pp_rank_*_optim_states.pt")
    known = {path for pattern in patterns for path in (save / "global_step1").glob(pattern)}
    others = {path.name for path in (save / "global_step1").iterdir() if path not in known}
    assert others == {"configs", MODEL_FILE, RUN_RECORD, VOCABULARY_FOLDER}
    for path in (save / "global_step1").glob("*.pt"):
        load_without_allowed_classes(path)


def load_without_allowed_classes(path: Path) -> None:
    """Load a file as a program does that allows no class of its own: it raises UnpicklingError for any."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)
