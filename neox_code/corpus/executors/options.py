"""The options of a command that runs its stages on a cluster.

add_cluster_options(parser)
with executor_of(parser.parse_args(argv), needs=paths) as executor:        # None with --executor local
    build_corpus(..., executor=executor)
"""

import argparse
import math
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from neox_code.corpus.executors.cluster import Cluster, ClusterExecutor
from neox_code.corpus.executors.ray import RayCluster
from neox_code.corpus.executors.slurm import SlurmCluster
from neox_code.errors import ConfigError

ONLY_OF = {
    "partition": ("slurm",),
    "time": ("slurm",),
    "sbatch": ("slurm",),
    "ray_address": ("ray",),
    "mem_per_cpu": ("slurm", "ray"),
    "tasks_per_job": ("slurm", "ray"),
    "retries": ("slurm", "ray"),
    "stall_seconds": ("slurm", "ray"),
}
"""The executors that an option is for."""


def add_cluster_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--tasks-per-job", type=whole_number, metavar="N", help="slurm, ray: tasks of about 8 MiB in a job (default: 32, or fewer)"
    )
    group.add_argument("--mem-per-cpu", type=whole_number, metavar="GIB", help="slurm, ray: memory of a job (default: 2)")
    group.add_argument(
        "--retries", type=count, metavar="N", help="slurm, ray: attempts in a row that may finish nothing further (default: 2)"
    )
    group.add_argument(
        "--stall-seconds", type=seconds, metavar="S", help="slurm, ray: jobs without progress are given up after (default: 1800)"
    )
    group.add_argument("--partition", metavar="NAME", help="slurm: the partition of the jobs (default: the cluster's)")
    group.add_argument("--time", type=time_limit, metavar="HH:MM:SS", help="slurm: the time limit of a job (default: 04:00:00)")
    group.add_argument(
        "--sbatch", action="append", type=setting, metavar="NAME=VALUE", help="slurm: an option of sbatch (repeated)"
    )
    group.add_argument("--ray-address", metavar="HOST:PORT", help="ray: the head (default: RAY_ADDRESS, or this machine)")


def executor_of(arguments: argparse.Namespace, needs: Sequence[str] = ()) -> AbstractContextManager[ClusterExecutor | None]:
    """The executor that the options ask for; None with `--executor local`."""
    chosen = {name: getattr(arguments, name) for name in ONLY_OF if getattr(arguments, name) is not None}
    astray = [f"--{name.replace('_', '-')}" for name in chosen if arguments.executor not in ONLY_OF[name]]
    if astray:
        raise ConfigError(f"{', '.join(astray)}: not of --executor {arguments.executor}. Leave out, or choose another executor.")
    if arguments.executor == "local":
        return nullcontext(None)
    memory = chosen.get("mem_per_cpu", 2)
    cluster: Cluster
    if arguments.executor == "slurm":
        known = {name: chosen[name] for name in ("partition", "time", "sbatch") if name in chosen}
        cluster = SlurmCluster(mem_per_cpu_gb=memory, **known)
    else:
        address = chosen.get("ray_address") or os.environ.get("RAY_ADDRESS") or "auto"
        cluster = RayCluster(address=address, mem_per_cpu_gb=memory)
    limits = {name: chosen[name] for name in ("tasks_per_job", "retries", "stall_seconds") if name in chosen}
    places = [str(Path(place).absolute()) for place in needs]
    return ClusterExecutor(cluster, workers=arguments.workers, needs=places, **limits)


def whole_number(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return number


def count(value: str) -> int:
    number = int(value)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return number


def seconds(value: str) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is not a number above 0")
    return number


def time_limit(value: str) -> str:
    """A time that cannot be misread: to Slurm "5" is five minutes, and "5:00" is not five hours.

    >>> time_limit("1-12:00:00"), time_limit("00:30:00")
    ('1-12:00:00', '00:30:00')
    """
    if not re.fullmatch(r"(\d+-)?\d{1,3}:[0-5]\d:[0-5]\d", value):
        raise argparse.ArgumentTypeError(f"{value} is not HH:MM:SS or DAYS-HH:MM:SS")
    return value


def setting(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z-]*=.+", value):
        raise argparse.ArgumentTypeError(f"{value} is not NAME=VALUE with the long name of an option, as account=me")
    return value
