"""Hands the jobs of an attempt to Slurm or Ray: the process that submission.py starts. On Ray it stays until they are done.

python -m neox_code.corpus.executors.submit FOLDER PROCESS-OF-THE-DRIVER
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from datatrove.executor import ray as datatrove_ray
from datatrove.executor.slurm import SlurmPipelineExecutor

from neox_code.corpus.executors.block import StageBlock
from neox_code.corpus.executors.submission import SETTINGS_FILE
from neox_code.errors import LaunchError, run_command
from neox_code.processes.parent import die_with_parent

GIB = 2**30


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0])
    die_with_parent(signal.SIGKILL, int(arguments[1]))
    order = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    common = {
        "pipeline": [StageBlock(folder)],
        "tasks": order["tasks"],
        "workers": order["workers"],
        "logging_dir": str(folder / "datatrove"),
        "skip_completed": False,  # its markers know only the rank; our outputs tell what is done
    }
    if order["cluster"] == "slurm":
        submit_to_slurm(common, order["settings"])
    else:
        run_on_ray(common, order["settings"], folder, order["python_path"])
    return 0


def submit_to_slurm(common: dict[str, Any], settings: dict[str, Any]) -> None:
    executor = SlurmPipelineExecutor(**common, **settings, qos=None)
    executor.launch_merge_stats = no_statistics
    try:
        executor.run()
    except subprocess.CalledProcessError:  # it has said why
        raise LaunchError("Change --partition, --time, --mem-per-cpu or --sbatch.") from None


def no_statistics() -> None:
    """In place of the job with which datatrove adds up its statistics: it would wait for ever after a job that failed."""


def run_on_ray(common: dict[str, Any], settings: dict[str, Any], folder: Path, python_path: str) -> None:
    import ray

    (folder / "ray").mkdir()
    variables = {"PYTHONPATH": python_path, "TMPDIR": str(folder / "ray")}  # a rank's log has the same name in every run
    try:
        ray.init(address=settings["address"], runtime_env={"env_vars": variables})
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise LaunchError(
            f"no Ray cluster at {settings['address']}: {' '.join(str(error).split())} "
            "Start one with `ray start`, and name its head with --ray-address or RAY_ADDRESS."
        ) from None
    needed = settings["mem_per_cpu_gb"] * GIB
    largest = max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if largest < needed:
        raise LaunchError(
            f"no machine of the Ray cluster has {settings['mem_per_cpu_gb']} GiB for a process; the largest gives "
            f"{largest / GIB:.1f} GiB. Lower --mem-per-cpu."
        )
    datatrove_ray.RankWorker, datatrove_ray.RayTaskManager = RankWorker, TaskManager
    datatrove_ray.RayPipelineExecutor(**common, mem_per_cpu_gb=settings["mem_per_cpu_gb"]).run()


class RankWorker(datatrove_ray.RankWorker):
    """An actor that does its job itself: when it is killed, Ray knows and starts another.

    Datatrove's waits for a child that does it, and for ever when that is killed.
    """

    def run_for_rank(self, executor_ref: Any, ranks: list[int], node_ips: list[str], node_idx: int) -> None:
        for rank in ranks:
            executor_ref._run_for_rank(rank, 1)  # local rank 1: to its log alone, not to the console as well


class TaskManager(datatrove_ray.RayTaskManager):
    """Is told of an actor that is lost before it has begun; datatrove's waits for it for ever."""

    def submit_task(self, *arguments: Any) -> Future[Any]:
        submitted = super().submit_task(*arguments)

        def pass_on(start: Future[Any]) -> None:
            if not start.cancelled() and start.exception() is not None:
                submitted.set_exception(start.exception())

        self.pg_futures[-1].add_done_callback(pass_on)
        return submitted


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
