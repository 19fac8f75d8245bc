"""Signals to real training runs: all ranks stop after the same step, save, and resume as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from distributed_runs import losses_of, prepare_forked, server
from torch.distributed.run import get_args_parser

from neox_code.checkpoint.layout import find_checkpoint, list_checkpoints
from neox_code.commands import train as command
from neox_code.errors import EXIT_RESUME
from neox_code.files import read_json_lines
from neox_code.launch.command import choose_port
from neox_code.training import loop

ROOT = Path(__file__).parents[2]


def signal_self_before_batch(number: int, iteration: int) -> None:
    run_one_step = loop.Run.run_one_step

    def disturbed(run, batches):
        if run.state.iteration == iteration:
            os.kill(os.getpid(), number)
        return run_one_step(run, batches)

    loop.Run.run_one_step = disturbed


def signal_self_at(doing: str, number: int, iteration: int) -> None:
    """Has this process signal itself when it begins to save or to validate at an iteration."""
    rest = loop.Watchdog.suspend
    before = loop.Run.save, loop.Run.maybe_evaluate
    place = {"iteration": 0}

    def follow(index):
        def method(run, *arguments):
            place["iteration"] = run.state.iteration
            return before[index](run, *arguments)

        return method

    def disturbed(watchdog, words):
        rest(watchdog, words)
        if doing in words and place["iteration"] == iteration:
            os.kill(os.getpid(), number)
            time.sleep(0.5)  # the thread that reads signals has read it

    loop.Run.save, loop.Run.maybe_evaluate = follow(0), follow(1)
    loop.Watchdog.suspend = disturbed


def rank_main(rank: int, world_size: int, port: int, disturb: Callable[..., None], arguments: tuple, words: list[str]) -> None:
    settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in settings.items()})
    os.environ.pop("NEOX_CODE_ERROR_FILE", None)
    prepare_forked()
    command.STOP.start()
    if rank == world_size - 1:
        disturb(*arguments)
    command.run_and_exit(command.main, words)


def run_and_stop(world_size: int, file: Path, disturb: Callable[..., None], *arguments: object, **keys: object) -> list[int]:
    """The exit statuses of ranks that no launcher started, of which the last disturbs itself."""
    port = choose_port(0, is_default=True)
    words = [str(file), *(f"--set={key}={value}" for key, value in keys.items())]
    ranks = [
        server.Process(target=rank_main, args=(rank, world_size, port, disturb, arguments, words)) for rank in range(world_size)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(240)
    statuses = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    return statuses


def losses(save: Path) -> list[float]:
    return [row["train/lm_loss"] for row in read_json_lines(save / "metrics.jsonl") if "train/lm_loss" in row]


@pytest.mark.parametrize(
    ("world_size", "number", "keys"),
    [
        (1, signal.SIGINT, {"precision": "bfloat16", "pipe_parallel_size": 0, "hidden_dropout": 0.1}),
        (4, signal.SIGUSR1, {"model_parallel_size": 2, "pipe_parallel_size": 2, "num_workers": 1}),
    ],
)
def test_a_stopped_run_resumes_to_the_losses_of_an_uninterrupted_run(job, tmp_path, world_size, number, keys):
    file, save = job(**keys), tmp_path / "halves"
    uninterrupted = losses_of(world_size, file, tmp_path / "whole")
    folders = {"save": save, "load": save}
    assert run_and_stop(world_size, file, signal_self_before_batch, number, 3, **folders) == [EXIT_RESUME] * world_size
    assert list(list_checkpoints(save)) == [4]
    assert find_checkpoint(save).name == "global_step4"
    assert losses_of(world_size, file, save, load=str(save)) == uninterrupted


def test_a_signal_during_validation_ends_it_and_saves_the_step(job, tmp_path):
    file, save = job(eval_iters=100_000, split="50,45,5"), tmp_path / "save"
    assert run_and_stop(2, file, signal_self_at, "validation", signal.SIGTERM, 3, save=save) == [EXIT_RESUME] * 2
    assert list(list_checkpoints(save)) == [3]
    assert len(losses(save)) == 3
    assert not [row for row in read_json_lines(save / "metrics.jsonl") if "validation/lm_loss" in row]


def test_a_signal_during_a_save_ends_the_run_after_it(job, tmp_path):
    save = tmp_path / "save"
    statuses = run_and_stop(2, job(), signal_self_at, "saving", signal.SIGTERM, 2, save=save, checkpoint_factor=2)
    assert statuses == [EXIT_RESUME] * 2
    assert list(list_checkpoints(save)) == [2]


def test_without_save_the_run_stops_with_the_same_status(job):
    assert run_and_stop(1, job(), signal_self_before_batch, signal.SIGTERM, 2) == [EXIT_RESUME]


def test_a_signal_in_the_last_step_changes_nothing(job, tmp_path):
    save = tmp_path / "save"
    assert run_and_stop(1, job(), signal_self_before_batch, signal.SIGTERM, 5, save=save) == [0]
    assert list(list_checkpoints(save)) == [6]


SHUTDOWN_TIMEOUT = ["--shutdown_timeout=200"] if "shutdown_timeout" in get_args_parser().format_help() else []
"""An option that torchrun of torch 2.11 lacks; without it the ranks have 30 seconds."""


@pytest.mark.parametrize("launcher", ["deepy", "ranks", "torchrun"])
def test_a_signal_to_every_process_of_a_run_saves(job, tmp_path, launcher):
    """The launcher, the ranks, their data workers and sentinels all get it, as when Slurm warns a step."""
    save = tmp_path / "save"
    file = job(train_iters=100_000, eval_interval=100_000, num_gpus=2, num_workers=1, save=str(save), load=str(save))
    module = ["neox_code.commands.train", str(file)]
    start = {
        "deepy": [str(ROOT / "deepy.py"), "train", str(file)],
        "ranks": ["-m", "neox_code.launch.ranks", "--ranks_per_node=2", "--master_port=0", "--module", *module],
        "torchrun": [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            *SHUTDOWN_TIMEOUT,
            "--module",
            *module,
        ],
    }
    port = choose_port(0, is_default=True)
    words = [word.replace("--master_port=0", f"--master_port={port}") for word in start[launcher]]
    run = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in run.stdout:
            if "iteration 2 " in line:
                break
        processes = [run.pid, *(child.pid for child in psutil.Process(run.pid).children(recursive=True))]
        assert len(processes) >= 5
        for process in processes:
            with suppress(ProcessLookupError):  # ended by what the first of them handed on
                os.kill(process, signal.SIGTERM)
        output = run.stdout.read()
        status = run.wait(240)
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    assert status == (1 if launcher == "torchrun" else EXIT_RESUME), output
    (saved,) = list_checkpoints(save)
    assert f"stopped by a signal at iteration {saved}, saved in {save} (exit status 75)" in output
    assert len(losses(save)) == saved
    assert "is killed by signal" not in output
