"""What a save leaves, and in which order it reaches the disk: after a power loss `latest` names a whole checkpoint."""

import os
import pickletools
import sys
import time
import zipfile
from pathlib import Path

import pytest
from distributed_runs import losses_of, run_ranks, train

from neox_code.checkpoint.layout import RUN_RECORD, TRAINING_LOCK, VOCABULARY_FOLDER, latest_file, partial_step_name, step_name

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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_file_is_on_the_disk_before_the_next_one_vouches_for_it(job, tmp_path, layout):
    save = tmp_path / "save"
    file = job(train_iters=2, checkpoint_factor=1, keep_last_n_checkpoints=1, eval_iters=0, **LAYOUTS[layout])
    events = sorted(event for events in run_ranks(2, train_recorded, [str(file)], {"save": str(save)}) for event in events)

    def times(kind: str, path: Path, size: int | None = None) -> list[int]:
        return [at for at, what, name, length in events if (what, name) == (kind, str(path)) and size in (None, length)]

    folder, partial, latest = save / step_name(2), save / partial_step_name(2), latest_file(save)
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
    (deleted,) = times("os.rename", save / partial_step_name(1))
    assert deleted < times("shutil.rmtree", save / partial_step_name(1))[-1]
    assert [at for at in times("sync", save) if is_current < at < deleted]
    assert latest.read_text() == "global_step2\n"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_save_leaves_weights_optimizer_state_and_configuration_and_nothing_else(job, tmp_path, layout):
    save = tmp_path / "save"
    losses_of(2, job(train_iters=1, eval_iters=0, data_cache_path=str(tmp_path / "cache"), **LAYOUTS[layout]), save)
    assert {path.name for path in save.iterdir()} == {"configs", "global_step1", "latest", "metrics.jsonl", TRAINING_LOCK}
    patterns = ("layer_*-model_*-model_states.pt", "mp_rank_*_model_states.pt", "*zero_pp_rank_*_optim_states.pt")
    known = {path for pattern in patterns for path in (save / "global_step1").glob(pattern)}
    others = {path.name for path in (save / "global_step1").iterdir() if path not in known}
    assert others == {"configs", RUN_RECORD, VOCABULARY_FOLDER}
    for path in (save / "global_step1").glob("*.pt"):
        classes = {name for name in classes_in(path) if not name.startswith(("torch ", "torch._utils ", "collections OrderedDict"))}
        assert classes <= OPTIMIZER_CLASSES if "optim_states" in path.name else not classes


OPTIMIZER_CLASSES = {
    "deepspeed.runtime.fp16.loss_scaler LossScaler",
    "deepspeed.runtime.fp16.loss_scaler DynamicLossScaler",
    "deepspeed.utils.tensor_fragment fragment_address",
}
"""What DeepSpeed's optimizer states are made of, besides tensors and plain containers."""


def classes_in(path: Path) -> set[str]:
    """The classes and functions that reading the file needs, as `MODULE NAME`."""
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        operations = [(operation.name, argument) for operation, argument, _ in pickletools.genops(archive.read(name))]
    assert "STACK_GLOBAL" not in {kind for kind, _ in operations}
    return {argument for kind, argument in operations if kind == "GLOBAL"}
