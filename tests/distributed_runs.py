"""Several ranks on this machine for tests: each a process of its own, joined over gloo.

    results = run_ranks(4, function, argument)         # function(argument) on each rank; the results in rank order

The processes are forked from a server that has imported the training stack once, so a run costs no imports.
"""

import gc
import io
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from neox_code.config.neox import NeoXConfig
from neox_code.launch.command import choose_port
from neox_code.logs import log_to_folder
from neox_code.training.pretrain import pretrain
from neox_code.training.trackers import read_metrics

TIMEOUT_SECONDS = 240

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(
    [
        "neox_code.training.pretrain",
        "deepspeed.module_inject.auto_ep_layer",
        "deepspeed.ops.triton_ops",
        "deepspeed.runtime.zero.muon.muon_optimizer",
        "deepspeed.ops",  # links a C program
        "torch._dynamo",  # imported by torch's optimizers: half of the time of a rank with a small model
    ]
)
"""What torch and DeepSpeed import and probe while an engine is built. The server ignores a module that it does not find, and
it does not see the path of the tests (Python 3.11): only installed packages can stand here."""


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Runs `function` on every rank and returns what each returned; a rank's exception fails the test with its traceback."""
    port = choose_port(0, is_default=True)
    processes, results = [], []
    for rank in range(world_size):
        receive, send = server.Pipe(duplex=False)
        process = server.Process(target=rank_main, args=(rank, world_size, port, send, function, arguments))
        process.start()
        processes.append(process)
        results.append(receive)
        send.close()
    try:
        return [unwrap(rank, receive) for rank, receive in enumerate(results)]
    finally:
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()


def unwrap(rank: int, receive: Connection) -> Any:
    assert receive.poll(TIMEOUT_SECONDS), f"rank {rank} gave no answer in {TIMEOUT_SECONDS} s"
    error, value = torch.load(io.BytesIO(receive.recv_bytes()), weights_only=False)
    assert not error, f"rank {rank} failed:\n{error}"
    return value


def prepare_forked() -> None:
    """Prepare a forked process: data workers are forked as those of a rank, collections leave out the server's objects."""
    multiprocessing.set_start_method("fork", force=True)
    gc.freeze()


def rank_main(rank: int, world_size: int, port: int, send: Connection, function: Callable[..., Any], arguments: tuple) -> None:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in environment.items()})
    torch.set_num_threads(1)
    prepare_forked()
    try:
        result = (None, function(*arguments))
    except BaseException:
        result = (traceback.format_exc(), None)
    buffer = io.BytesIO()
    torch.save(result, buffer)
    send.send_bytes(buffer.getvalue())


def train(files: list[str], overrides: dict[str, Any], log_dir: str | None = None) -> int:
    """Pretrains on this rank, its log copied to `log_dir`; returns the last iteration."""
    if log_dir:
        log_to_folder(log_dir)
    return pretrain(NeoXConfig.load(files, overrides)).iteration


def losses_of(world_size: int, file: Path, save: Path, **overrides: Any) -> list[float]:
    """The training losses, step by step, of a run on so many ranks."""
    run_ranks(world_size, train, [str(file)], {"save": str(save), **overrides})
    return [row["train/lm_loss"] for row in read_metrics(save / "metrics.jsonl") if "train/lm_loss" in row]
