"""Ray's driver for the jobs of one attempt: python -m neox_code.corpus.executors.ray_driver FOLDER PARENT COUNT WORKERS ADDRESS GIB

At most WORKERS of the COUNT jobs run at a time, each with one CPU and GIB GiB of memory. If a job's process or machine is lost, Ray
restarts the job, a few times at most. A restarted job skips the tasks that have an output.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neox_code.corpus.executors.worker import run_as_child
from neox_code.errors import LaunchError, run_command
from neox_code.processes.parent import die_with_parent

try:
    import ray
except ModuleNotFoundError:  # RayCluster.check reports it
    ray = None

GIB = 2**30
MAX_RETRIES = 3


def main(argv: Sequence[str]) -> int:
    """Run an attempt's jobs on Ray; return the exit status."""
    folder, address = Path(argv[0]), argv[4]
    parent, count, workers, memory_gib = (int(argv[index]) for index in (1, 2, 3, 5))
    die_with_parent(signal.SIGKILL, parent)
    connect_to_ray(address, memory_gib)
    options = {"num_cpus": 1, "memory": memory_gib * GIB, "max_retries": MAX_RETRIES, "retry_exceptions": [RuntimeError]}
    run_remotely = ray.remote(**options)(run_as_child)
    running: list[Any] = []
    for job in range(count):
        if len(running) >= workers:
            running = wait_for_any_task(running)
        running.append(run_remotely.remote(folder, job, count))
    while running:
        running = wait_for_any_task(running)
    return 0


def connect_to_ray(address: str, memory_gib: int) -> None:
    """Connect to the cluster. Raise LaunchError if there is none, or no machine with enough memory."""
    try:
        variables = {"PYTHONPATH": os.environ["PYTHONPATH"]}
        ray.init(address=address, runtime_env={"env_vars": variables}, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise LaunchError(
            f"no Ray cluster at {address}: {' '.join(str(error).split())} "
            "Start one with `ray start`, and name its head with --ray-address or RAY_ADDRESS."
        ) from None
    largest = max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if largest < memory_gib * GIB:
        raise LaunchError(
            f"no machine of the Ray cluster has {memory_gib} GiB for a process; the largest has {largest / GIB:.1f} GiB. "
            "Lower --mem-per-cpu."
        )


def wait_for_any_task(running: list[Any]) -> list[Any]:
    """Wait until a job has ended, print its error if it failed, and return the jobs that are still running."""
    ended, running = ray.wait(running, num_returns=1)
    try:
        ray.get(ended)
    except ray.exceptions.RayError as error:
        print(error, flush=True)
    return running


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
