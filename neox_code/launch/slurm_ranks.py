"""Set the variables that torch.distributed and DeepSpeed read, in ranks that srun starts.

# srun python -m neox_code.commands.train CONFIG...
set_rank_variables()       # call it first: it sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT
"""

import os
import re
import socket
from collections.abc import Mapping, MutableMapping

from neox_code.errors import LaunchError
from neox_code.launch.hosts import find_visible_gpus, read_slurm_number, read_slurm_variable

PORTS = range(10_000, 30_000)
"""Ports below those that Linux assigns to outgoing connections."""


def set_rank_variables(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables of torchrun in a task of srun. Variables that are already set, for example MASTER_ADDR, are not changed.

    Do nothing if another launcher set RANK, or in a batch script, which is not a rank. Raise LaunchError if a variable of Slurm is
    missing or not a number.
    """
    if "SLURM_STEP_NUM_TASKS" not in environment or "RANK" in environment:
        return
    rank, world_size, local_rank = (
        read_slurm_number(environment, name) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    )
    if rank >= world_size:
        raise LaunchError(f"SLURM_PROCID ({rank}) must be less than SLURM_STEP_NUM_TASKS ({world_size}). Start the ranks by srun.")
    ranks = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": local_rank}
    if world_size > 1:
        if "MASTER_ADDR" not in environment:
            environment["MASTER_ADDR"] = choose_master_host(environment)
        if "MASTER_PORT" not in environment:
            environment["MASTER_PORT"] = str(PORTS[read_slurm_number(environment, "SLURM_JOB_ID") % len(PORTS)])
    if len(find_visible_gpus()) == 1:
        ranks["LOCAL_RANK"] = 0  # with --gpus-per-task each task sees its own GPU alone, as number 0
    environment.update({name: str(value) for name, value in ranks.items()})


def choose_master_host(environment: Mapping[str, str]) -> str:
    """Return the first host of the Slurm step. If its name cannot be resolved, return the address of the host that runs srun, which
    is the same host in a batch script. Raise LaunchError if neither is known.
    """
    nodes = read_slurm_variable(environment, "SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST"))
    host = parse_first_host(nodes)
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        address = environment.get("SLURM_LAUNCH_NODE_IPADDR")
        if address is None:
            raise LaunchError(
                f"{socket.gethostname()} cannot resolve the job's first host ({host}). Set MASTER_ADDR in the batch script."
            ) from None
        return address
    return host


def parse_first_host(hosts: str) -> str:
    """Return the first name of a host list in Slurm's notation.

    >>> parse_first_host("gpu[07-09,12],login1"), parse_first_host("r[1,3]n[04-05]"), parse_first_host("a1,a2")
    ('gpu07', 'r1n04', 'a1')
    """
    name = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", name[0]) if name else ""
