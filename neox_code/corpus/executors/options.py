"""Command-line options for running the stages of a command on a cluster.

add_executor_options(parser)
with build_executor(parser.parse_args(argv), needs=paths) as executor:        # None for --executor local
    build_corpus(..., executor=executor)
"""

import argparse
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from neox_code.config.command_line import parse_non_negative_integer, parse_positive_integer, parse_positive_number
from neox_code.corpus.executors.cluster import ClusterExecutor
from neox_code.corpus.executors.ray import RayCluster
from neox_code.corpus.executors.slurm import SlurmCluster
from neox_code.errors import ConfigError

EXECUTORS_OF = {
    **dict.fromkeys(("partition", "time", "sbatch"), ("slurm",)),
    "ray_address": ("ray",),
    **dict.fromkeys(("mem_per_cpu", "tasks_per_job", "retries", "stall_seconds"), ("slurm", "ray")),
}
"""Option -> the executors that use it."""


def add_executor_options(group: argparse._ActionsContainer) -> None:
    """Add the options that choose where the tasks of a stage run."""
    group.add_argument(
        "--executor", choices=("local", "slurm", "ray"), default="local", help="where tasks run (default: local, this machine)"
    )
    group.add_argument(
        "--tasks-per-job", type=parse_positive_integer, metavar="N", help="slurm, ray: tasks in a job (default: 32, or fewer)"
    )
    group.add_argument("--mem-per-cpu", type=parse_positive_integer, metavar="GIB", help="slurm, ray: memory of a job (default: 2)")
    group.add_argument(
        "--retries",
        type=parse_non_negative_integer,
        metavar="N",
        help="slurm, ray: retries after attempts in which no task finishes (default: 2)",
    )
    group.add_argument(
        "--stall-seconds",
        type=parse_positive_number,
        metavar="S",
        help="slurm, ray: seconds without progress after which jobs are cancelled (default: 1800)",
    )
    group.add_argument("--partition", metavar="NAME", help="slurm: partition of the jobs (default: the cluster's)")
    group.add_argument("--time", type=parse_time_limit, metavar="HH:MM:SS", help="slurm: time limit of a job (default: 04:00:00)")
    group.add_argument(
        "--sbatch", action="append", type=parse_sbatch_option, metavar="NAME=VALUE", help="slurm: an option of sbatch (repeatable)"
    )
    group.add_argument("--ray-address", metavar="HOST:PORT", help="ray: the head node (default: RAY_ADDRESS, or this machine)")


def build_executor(arguments: argparse.Namespace, needs: Sequence[str] = ()) -> AbstractContextManager[ClusterExecutor | None]:
    """Return the executor that the options describe; None for `local`. The paths `needs` must exist on every machine."""
    chosen = {name: getattr(arguments, name) for name in EXECUTORS_OF if getattr(arguments, name) is not None}
    misplaced = [f"--{name.replace('_', '-')}" for name in chosen if arguments.executor not in EXECUTORS_OF[name]]
    if misplaced:
        raise ConfigError(
            f"{', '.join(misplaced)} cannot be used with --executor {arguments.executor}. Leave it out, or choose another executor."
        )
    if arguments.executor == "local":
        return nullcontext(None)
    memory = chosen.get("mem_per_cpu", 2)
    cluster: SlurmCluster | RayCluster
    if arguments.executor == "slurm":
        cluster = SlurmCluster(
            mem_per_cpu_gb=memory, **{name: chosen[name] for name in ("partition", "time", "sbatch") if name in chosen}
        )
    else:
        cluster = RayCluster(chosen.get("ray_address") or os.environ.get("RAY_ADDRESS") or "auto", memory)
    limits = {name: chosen[name] for name in ("tasks_per_job", "retries", "stall_seconds") if name in chosen}
    paths = [str(Path(path).absolute()) for path in needs]
    return ClusterExecutor(cluster, workers=arguments.workers, needs=paths, **limits)


def parse_time_limit(value: str) -> str:
    """Return a time limit unchanged if it has hours. Raise an error for others: Slurm reads "5" and "5:00" as five minutes.

    >>> parse_time_limit("1-12:00:00"), parse_time_limit("00:30:00")
    ('1-12:00:00', '00:30:00')
    """
    if not re.fullmatch(r"(\d+-)?\d{1,3}:[0-5]\d:[0-5]\d", value):
        raise argparse.ArgumentTypeError(f"{value} is not HH:MM:SS or DAYS-HH:MM:SS")
    return value


def parse_sbatch_option(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z-]*=.+", value):
        raise argparse.ArgumentTypeError(f"{value} is not NAME=VALUE with the long name of an option. Example: account=me")
    return value
