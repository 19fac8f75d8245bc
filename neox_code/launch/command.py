"""The command that starts a run's ranks.

    launch_command("neox_code.commands.train", ["configs/small.yml"], config)

On one machine it is `ranks`, which passes on the ranks' exit status; on several it is `fleet`, which starts one such launcher on
each of them by pdsh, MPI or Slurm and ends them together.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence

from neox_code.config.assembly import DEFAULT
from neox_code.config.derive import data_parallel_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import LaunchError
from neox_code.launch.hosts import (
    COMMON_ORIGIN,
    HOSTFILE_VARIABLE,
    LOCALHOST,
    MISSING,
    Resources,
    address_of,
    is_only_here,
    resources,
    visible_gpus,
)


def launch_command(module: str, arguments: Sequence[str], config: NeoXConfig, planned: Resources | None = None) -> list[str]:
    """The words that run `python -m MODULE ARGUMENTS...` on every rank.

    `planned` hosts are taken as they are, and no port is tried: for a dry run, which does not look at the machine.

    Raises ConfigError where the ranks are no multiple of pipeline x tensor size, LaunchError for hosts that are not there, a
    number of ranks other than `global_num_gpus`, or a port in use.
    """
    parallelism = config.parallelism
    found = resources(parallelism) if planned is None else planned
    check_number(sum(map(len, found.values())), config)
    is_local = is_only_here(found)
    words = local_launcher(found, config, planned is None) if is_local else fleet(found, config)
    return [*words, "--module", module, *arguments]


def remarks(config: NeoXConfig) -> Iterator[str]:
    """What the configuration alone does not show of where the run's ranks are."""
    origin, launcher = config.origins["hostfile"], config.said("launcher")
    if origin.endswith(MISSING):
        yield f"hostfile {origin}"
    if origin in (HOSTFILE_VARIABLE, COMMON_ORIGIN):
        yield f"hostfile {config.parallelism.hostfile} ({origin}) names the run's hosts"
    if config.origins["launcher"] != DEFAULT and list(resources(config.parallelism)) == [LOCALHOST]:
        yield f"{launcher} is for several machines: without a hostfile or a job of several nodes the run has this one alone"


def check_number(ranks: int, config: NeoXConfig) -> None:
    """Raises an error where so many ranks are not what the configuration can be laid over."""
    parallelism = config.parallelism
    if parallelism.global_num_gpus not in (None, ranks):
        raise LaunchError(
            f"global_num_gpus ({parallelism.global_num_gpus}, {config.origins['global_num_gpus']}) is not the {ranks} ranks that "
            "are started. Change their number (the hostfile's slots, num_gpus, torchrun's or srun's), or remove global_num_gpus."
        )
    data_parallel_size(ranks, parallelism.pipe_parallel_size, parallelism.model_parallel_size)


def local_launcher(found: Resources, config: NeoXConfig, try_port: bool) -> list[str]:
    parallelism = config.parallelism
    port = parallelism.master_port
    if try_port:
        port = meeting_port(port, is_default=config.origins["master_port"] == DEFAULT)
    return host_launcher(found, 0, parallelism.master_addr or "127.0.0.1", port)


def host_launcher(found: Resources, node: int, address: str, port: int) -> list[str]:
    """The launcher of the ranks of one host, the node-th of those found."""
    return [
        *(sys.executable, "-u", "-m", "neox_code.launch.ranks"),
        f"--hosts={json.dumps(found)}",
        *([f"--node_rank={node}"] if len(found) > 1 else []),
        f"--master_addr={address}",
        f"--master_port={port}",
    ]


QUIET = {"PYTHONWARNINGS": "ignore:Transformer:UserWarning"}
"""megatron-core warns several times that Transformer Engine is not installed. Without spaces: it is handed on through ssh."""

ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.hugetlb=1"}
"""For tensor work on a CPU: aligned blocks are merged again when they are freed, and memory comes in huge pages. A page fault for
every 4 KiB of a step's tensors would take a twentieth of its time. glibc reads it at a process's start alone."""


def launch_environment(config: NeoXConfig) -> dict[str, str]:
    """What the ranks of this machine find in their environment: their share of the cores, on CPUs DeepSpeed's device type and the
    allocator's settings, and silence about optional libraries that megatron-core does without.

    Values that are set already stay as they are. Of several machines, each finds its own.
    """
    found = resources(config.parallelism)
    return environment_here(sum(map(len, found.values())) if is_only_here(found) else 0)


def environment_here(ranks: int) -> dict[str, str]:
    """`launch_environment` for so many ranks on this machine."""
    share = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // ranks))} if ranks else {}
    device = {} if visible_gpus() or not ranks else {"DS_ACCELERATOR": "cpu", **ALLOCATOR}
    return {name: value for name, value in {**share, **device, **QUIET}.items() if name not in os.environ}


def fleet(found: Resources, config: NeoXConfig) -> list[str]:
    """The head of a run on several hosts. Raises LaunchError for a host that the launcher cannot be given."""
    parallelism = config.parallelism
    for host in found:
        if ":" in host:
            raise LaunchError(
                f"{host} is an IPv6 address, and the launcher {parallelism.launcher} takes names and IPv4 addresses alone. Give it "
                "a name in /etc/hosts or ~/.ssh/config, and write that in the hostfile."
            )
        if "@" in host and parallelism.launcher != "pdsh":
            raise LaunchError(
                f"{host} names a user, which only the launcher pdsh can connect as, not {parallelism.launcher}. Write "
                f"{address_of(host)}, and the user in ~/.ssh/config."
            )
    asked_for_port = config.origins["master_port"] != DEFAULT
    return [
        *(sys.executable, "-u", "-m", "neox_code.launch.fleet"),
        f"--launcher={parallelism.launcher}",
        f"--hosts={json.dumps(found)}",
        f"--stop_timeout={parallelism.stop_timeout_seconds}",
        *([f"--master_addr={parallelism.master_addr}"] if parallelism.master_addr else []),
        *([f"--master_port={parallelism.master_port}"] if asked_for_port else []),
    ]


def meeting_port(port: int, is_default: bool) -> int:
    """The port where the ranks of this machine meet: the one that was asked for, or else any that is free.

    Not the default one: two runs that begin in the same seconds would both find it free. Raises LaunchError where a port that was
    asked for is in use.
    """
    if is_default:
        with socket.socket() as probe:
            probe.bind(("", 0))
            free: int = probe.getsockname()[1]
        return free
    if not is_free(port):
        raise LaunchError(f"master_port {port} is in use on this machine. End what uses it, or set another port.")
    return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
