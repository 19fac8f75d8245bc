"""Saves while training continues: what they contain, what failures leave, and what is found when a file is loaded."""

import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_runs import losses_of, run_ranks, server, train

from neox_code.checkpoint import save as saving
from neox_code.checkpoint.checksums import compute_checksum
from neox_code.checkpoint.layout import list_checkpoints
from neox_code.checkpoint.record import read_record
from neox_code.checkpoint.snapshot import Snapshot
from neox_code.errors import CheckpointError
from neox_code.launch.command import choose_port
from neox_code.training.loop import Run

BF16 = {"precision": "bfloat16"}


def train_with_slow_copies(files: list[str], overrides: dict[str, Any], has_memory: bool) -> bool:
    """Train on this rank; the copies begin late. Return True if a step ran before a checkpoint was complete."""
    copy, run_one_step, place = Snapshot.copy, Run.run_one_step, {"is_ahead": False}

    def copy_late(self: Snapshot) -> None:
        time.sleep(0.2)
        copy(self)
        time.sleep(0.2)

    def look(self: Run, batches: Any) -> Any:
        result = run_one_step(self, batches)
        pending = self.checkpoints.pending
        place["is_ahead"] |= pending is not None and pending.thread.is_alive() and not pending.folder.exists()
        return result

    Snapshot.copy, Run.run_one_step = copy_late, look
    if not has_memory:
        Snapshot.__init__.__globals__["read_available_bytes"] = lambda: 0
    train(files, overrides)
    return place["is_ahead"]


@pytest.mark.parametrize(
    ("keys", "ranks", "has_memory"),
    [
        (BF16 | {"model_parallel_size": 2}, 2, True),
        ({"zero_optimization": {"stage": 2}, "pipe_parallel_size": 0}, 2, True),
        (BF16 | {"pipe_parallel_size": 0, "zero_optimization": {"stage": 3}}, 2, True),
        (BF16 | {"pipe_parallel_size": 2}, 2, False),
    ],
    ids=["tensor", "ZeRO-2", "ZeRO-3", "without memory"],
)
def test_a_checkpoint_has_the_state_of_its_step_although_training_continued(job, tmp_path, keys, ranks, has_memory):
    file = job(**keys, eval_iters=0)
    expected = losses_of(ranks, file, tmp_path / "stopped", exit_interval=2)
    overrides = {"save": str(tmp_path / "save"), "extra_save_iters": [2, 3]}
    is_ahead = run_ranks(ranks, train_with_slow_copies, [str(file)], overrides, has_memory)
    assert all(is_ahead) or not has_memory or "zero_optimization" in keys
    names = sorted(path.name for path in (tmp_path / "stopped/global_step2").glob("*.pt"))
    assert len(names) >= 3
    for name in names:
        one, other = (torch.load(tmp_path / run / "global_step2" / name) for run in ("stopped", "save"))
        assert torch.utils._pytree.tree_all(lambda equal: equal, compare(one, other)), name
    for run in ("stopped", "save"):
        for number, folder in list_checkpoints(tmp_path / run).items():
            record = read_record(folder)
            assert record.iteration == number
            assert record.checksums == {name: compute_checksum(folder / name) for name in record.files}
    assert len(expected) == 2


def compare(one: Any, other: Any) -> Any:
    """Return True for each pair of equal leaves. Names of folders and of files may differ."""
    return torch.utils._pytree.tree_map(
        lambda a, b: torch.equal(a, b) if isinstance(a, torch.Tensor) else isinstance(a, str) or a == b, one, other
    )


def train_on_full_disk(files: list[str], overrides: dict[str, Any], log_dir: str, full: tuple[int, int]) -> str:
    """Train on this rank. On the last rank no file can have more than 1,000 bytes from one step to another. Return the error."""
    run_one_step = Run.run_one_step

    def fill(self: Run, batches: Any) -> Any:
        if self.grid.rank == self.grid.world_size - 1 and self.state.iteration in full:
            if self.checkpoints.pending:
                self.checkpoints.pending.thread.join()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if self.state.iteration == full[0] else -1, -1))
        return run_one_step(self, batches)

    Run.run_one_step = fill
    try:
        train(files, overrides, log_dir)
    except CheckpointError as error:
        return str(error)
    return ""


def test_training_continues_on_a_full_disk_until_too_much_would_be_lost(job, tmp_path):
    keys = {"checkpoint_factor": 1, "eval_iters": 0, "pipe_parallel_size": 2, "train_iters": 8}
    save = tmp_path / "space"
    overrides = {"save": str(save)}
    assert run_ranks(2, train_on_full_disk, [str(job(**keys))], overrides, str(tmp_path / "logs"), (2, 4)) == ["", ""]
    assert list(list_checkpoints(save)) == [1, 2, 5, 6, 7, 8]
    (log,) = (tmp_path / "logs").glob("*rank0.log")
    assert "until 6 steps would be lost (max_unsaved_steps), now 2" in log.read_text()
    assert not list(save.glob("*.partial"))

    full = tmp_path / "full"
    overrides = {"save": str(full), "max_unsaved_steps": 3}
    errors = run_ranks(2, train_on_full_disk, [str(job(**keys))], overrides, str(tmp_path / "more"), (2, 99))
    assert len(set(errors)) == 1
    assert "could not be written" in errors[0] and "Earlier checkpoints are unchanged" in errors[0]
    assert list(list_checkpoints(full)) == [1, 2]
    expected = losses_of(2, job(**keys), tmp_path / "whole", checkpoint_factor=99)
    assert losses_of(2, job(**keys), full, load=str(full)) == expected


def kill_during_write(rank: int, port: int, files: list[str], overrides: dict[str, Any]) -> None:
    """Train as the only rank, which is killed while it writes the checkpoint of step 4."""
    write = saving.save_file

    def kill(content: Any, path: Path) -> None:
        write(content, path)
        if "global_step4" in str(path):
            with Path(path).open("r+b") as file:
                file.truncate(file.seek(0, os.SEEK_END) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    saving.save_file = kill
    train(files, overrides)


def test_a_kill_during_a_save_leaves_the_previous_checkpoint(job, tmp_path):
    keys = {"checkpoint_factor": 2, "eval_iters": 0, "pipe_parallel_size": 0}
    save = tmp_path / "save"
    overrides = {"save": str(save), "load": str(save)}
    process = server.Process(target=kill_during_write, args=(0, choose_port(0, is_default=True), [str(job(**keys))], overrides))
    process.start()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    assert (save / "latest").read_text() == "global_step2\n"
    assert (save / "global_step4.partial").is_dir()
    expected = losses_of(1, job(**keys), tmp_path / "whole")
    assert losses_of(1, job(**keys), save, load=str(save)) == expected
    assert list(list_checkpoints(save)) == [2, 4, 6]


def test_a_file_of_another_checkpoint_is_found_when_it_is_loaded(job, tmp_path):
    """Its size and its own checksums are right."""
    keys = {"eval_iters": 0, "extra_save_iters": [2, 4], "train_iters": 4}
    save = tmp_path / "save"
    losses_of(1, job(**keys), save)
    for pattern in ("layer_02*", "*optim_states.pt"):
        (path,) = (save / "global_step4").glob(pattern)
        whole = path.read_bytes()
        shutil.copy(save / "global_step2" / path.name, path)
        with pytest.raises(AssertionError, match=rf"{path} .* is damaged .*its checksum is \w+, and \w+ in run.json"):
            losses_of(1, job(**keys | {"train_iters": 5}), save, load=str(save))
        path.write_bytes(whole)
    assert len(losses_of(1, job(**keys | {"train_iters": 5}), save, load=str(save))) == 5


def test_checkpoints_at_powers_of_the_factor(job, tmp_path):
    keys = {"checkpoint_factor": 2, "checkpoint_scale": "log", "train_iters": 10, "eval_iters": 0, "pipe_parallel_size": 0}
    losses_of(1, job(**keys), tmp_path / "save")
    assert list(list_checkpoints(tmp_path / "save")) == [2, 4, 8, 10]
