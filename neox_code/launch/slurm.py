"""Ranks that srun starts: who they are, in the words that torch.distributed and DeepSpeed read.

# srun python -m neox_code.commands.train CONFIG...
adopt_slurm_ranks()        # first thing in the process: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are set
"""

import os
import re
import socket
from collections.abc import Mapping, MutableMapping

from neox_code.errors import LaunchError
from neox_code.launch.hosts import slurm_number, slurm_variable, visible_gpus

PORTS = range(10_000, 30_000)
"""Below the ports that Linux gives to outgoing connections."""


def adopt_slurm_ranks(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds what torchrun would have set, in a task of srun's; values that are there already stay, MASTER_ADDR for example.

    Does nothing where another launcher set RANK, and in a batch script itself, which is no rank. Raises LaunchError where one of
    Slurm's variables is missing or is no number.
    """
    if "SLURM_STEP_NUM_TASKS" not in environment or "RANK" in environment:
        return
    rank, world_size, local_rank = (
        slurm_number(environment, name) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    )
    if rank >= world_size:
        raise LaunchError(f"SLURM_PROCID ({rank}) must be less than SLURM_STEP_NUM_TASKS ({world_size}). Start the ranks by srun.")
    ranks = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": local_rank}
    if world_size > 1:
        if "MASTER_ADDR" not in environment:
            environment["MASTER_ADDR"] = meeting_host(environment)
        if "MASTER_PORT" not in environment:
            environment["MASTER_PORT"] = str(PORTS[slurm_number(environment, "SLURM_JOB_ID") % len(PORTS)])
    if len(visible_gpus()) == 1:
        ranks["LOCAL_RANK"] = 0  # with --gpus-per-task each task sees its own GPU alone, as number 0
    environment.update({name: str(value) for name, value in ranks.items()})


def meeting_host(environment: Mapping[str, str]) -> str:
    """The first host of the step, or where its name is Slurm's alone, the address of the host that srun runs on.

    In a batch script both are one. Raises LaunchError where neither is known.
    """
    nodes = slurm_variable(environment, "SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST"))
    host = first_host(nodes)
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        address = environment.get("SLURM_LAUNCH_NODE_IPADDR")
        if address is None:
            raise LaunchError(
                f"{socket.gethostname()} finds no address for the job's first host ({host}). Set MASTER_ADDR in the batch script."
            ) from None
        return address
    return host


def first_host(hosts: str) -> str:
    """The first name of Slurm's list of hosts.

    >>> first_host("gpu[07-09,12],login1"), first_host("r[1,3]n[04-05]"), first_host("a1,a2")
    ('gpu07', 'r1n04', 'a1')
    """
    name = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", name[0]) if name else ""
