"""Ranks that srun starts: who they are, in the words that torch.distributed and DeepSpeed read.

# srun python -m neox_code.commands.train CONFIG...
adopt_slurm_ranks()        # first thing in the process: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are set
"""

import os
import re
import socket
from collections.abc import Mapping, MutableMapping

from neox_code.errors import LaunchError
from neox_code.launch.hosts import visible_gpus

PORTS = range(10_000, 30_000)
"""Below the ports that Linux gives to outgoing connections."""


def adopt_slurm_ranks(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds what torchrun would have set, in a task of srun's; values that are there already stay, MASTER_ADDR for example.

    Does nothing where another launcher set RANK, and in a batch script itself, which is no rank.
    """
    if "SLURM_STEP_NUM_TASKS" not in environment or "RANK" in environment:
        return
    ranks = {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        # with --gpus-per-task each task sees its own GPU alone, as number 0
        "LOCAL_RANK": "0" if len(visible_gpus()) == 1 else environment["SLURM_LOCALID"],
    }
    environment.update(ranks)
    if ranks["WORLD_SIZE"] != "1":
        if "MASTER_ADDR" not in environment:
            environment["MASTER_ADDR"] = meeting_host(environment)
        environment.setdefault("MASTER_PORT", str(PORTS[int(environment["SLURM_JOB_ID"]) % len(PORTS)]))


def meeting_host(environment: Mapping[str, str]) -> str:
    """The first host of the step, or where its name is Slurm's alone, the address of the host that srun runs on.

    In a batch script both are one. Raises LaunchError where neither is known.
    """
    host = first_host(environment["SLURM_STEP_NODELIST"])
    try:
        socket.getaddrinfo(host, None)
    except OSError:
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
