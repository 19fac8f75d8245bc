"""Make the command that starts a run's ranks.

    make_launch_command("neox_code.commands.train", ["configs/small.yml"], config)

On one host the command runs `launch.ranks`, which exits with the ranks' exit status. On several hosts it runs `launch.fleet`, which
starts `launch.ranks` on each host by pdsh, MPI or Slurm, and ends the ranks of all hosts together.
"""

import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence

from neox_code.config.assembly import DEFAULT
from neox_code.config.derive import compute_data_parallel_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import LaunchError
from neox_code.launch.hosts import (
    COMMON_ORIGIN,
    HOSTFILE_VARIABLE,
    LOCALHOST,
    MISSING,
    Resources,
    find_resources,
    find_visible_gpus,
    is_only_this_machine,
    strip_user,
)
from neox_code.processes.workers import count_available_cores


def make_launch_command(module: str, arguments: Sequence[str], config: NeoXConfig, planned: Resources | None = None) -> list[str]:
    """Return the command line that runs `python -m MODULE ARGUMENTS...` on every rank. With `planned` hosts (a dry run), hosts and
    ports are not checked.

    Raise ConfigError if the number of ranks is not a multiple of pipeline x tensor size. Raise LaunchError if a host is missing,
    the number of ranks differs from `global_num_gpus`, or a port is in use.
    """
    parallelism = config.parallelism
    found = find_resources(parallelism) if planned is None else planned
    check_num_ranks(sum(map(len, found.values())), config)
    if not is_only_this_machine(found):
        return [*make_multi_host_launcher(found, config), "--module", module, *arguments]
    port = parallelism.master_port
    if planned is None:
        port = choose_port(port, is_default=config.origins["master_port"] == DEFAULT)
    launcher = make_host_launcher(found, 0, parallelism.master_addr or "127.0.0.1", port)
    return [*launcher, "--module", module, *arguments]


def describe_placement(config: NeoXConfig) -> Iterator[str]:
    """Yield remarks on the hosts of the run, which depend on files and variables outside of the configuration."""
    origin, launcher = config.origins["hostfile"], config.format_key("launcher")
    if origin.endswith(MISSING):
        yield f"hostfile {origin}"
    if origin in (HOSTFILE_VARIABLE, COMMON_ORIGIN):
        yield f"hostfile {config.parallelism.hostfile} ({origin}) names the run's hosts"
    if config.origins["launcher"] != DEFAULT and list(find_resources(config.parallelism)) == [LOCALHOST]:
        yield f"{launcher} is for several machines: without a hostfile or a job of several nodes, the run uses only this machine"


def check_num_ranks(ranks: int, config: NeoXConfig) -> None:
    """Raise an error if the configuration does not fit this number of ranks."""
    parallelism = config.parallelism
    if parallelism.global_num_gpus not in (None, ranks):
        raise LaunchError(
            f"global_num_gpus ({parallelism.global_num_gpus}, {config.origins['global_num_gpus']}) differs from the {ranks} "
            "ranks that are started. Change their number "
            "(the hostfile's slots, num_gpus, torchrun's or srun's), or remove global_num_gpus."
        )
    compute_data_parallel_size(ranks, parallelism.pipe_parallel_size, parallelism.model_parallel_size)


def make_host_launcher(found: Resources, node: int, address: str, port: int) -> list[str]:
    """Return the command line of the launcher of host number `node`."""
    return [
        *(sys.executable, "-u", "-m", "neox_code.launch.ranks"),
        f"--hosts={json.dumps(found)}",
        *([f"--node_rank={node}"] if len(found) > 1 else []),
        f"--master_addr={address}",
        f"--master_port={port}",
    ]


QUIET = {"PYTHONWARNINGS": "ignore:Transformer:UserWarning"}
"""Variable that hides megatron-core's repeated warning that Transformer Engine is not installed. The value has no spaces, because
ssh would split it."""

LOCAL = {"GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR"}
"""Variables for ranks on one host: use the loopback interface, and hide warnings of a host name without an address."""

ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.hugetlb=1"}
"""Settings of glibc's allocator for tensors on a CPU: freed blocks are merged, and memory is allocated in huge pages. Without these
settings, page faults take a twentieth of a step. glibc reads the settings only at the start of a process."""


def make_launch_environment(config: NeoXConfig) -> dict[str, str]:
    """Return the environment variables to add for the ranks of this host.

    They are the number of threads per rank and QUIET; on CPUs also DeepSpeed's device type and the allocator's settings; on a
    single host also LOCAL. Variables that are already set are not changed. Each host of a run makes its own variables.
    """
    found = find_resources(config.parallelism)
    if not is_only_this_machine(found):
        return make_host_environment(0)
    local = {name: value for name, value in LOCAL.items() if name not in os.environ}
    return make_host_environment(sum(map(len, found.values()))) | local


def make_host_environment(ranks: int) -> dict[str, str]:
    """Return the variables of `make_launch_environment` that depend on the number of ranks on this host."""
    share = {"OMP_NUM_THREADS": str(max(1, count_available_cores() // ranks))} if ranks else {}
    device = {} if find_visible_gpus() or not ranks else {"DS_ACCELERATOR": "cpu", **ALLOCATOR}
    return {name: value for name, value in {**share, **device, **QUIET}.items() if name not in os.environ}


def make_multi_host_launcher(found: Resources, config: NeoXConfig) -> list[str]:
    """Return the command line of the head of a run on several hosts.

    Raise LaunchError for a host name that the launcher does not accept.
    """
    parallelism = config.parallelism
    for host in found:
        if ":" in host:
            raise LaunchError(
                f"{host} is an IPv6 address, but the launcher {parallelism.launcher} accepts only names and IPv4 addresses. "
                "Define a name for it in /etc/hosts or ~/.ssh/config, and write that name in the hostfile."
            )
        if "@" in host and parallelism.launcher != "pdsh":
            raise LaunchError(
                f"{host} contains a user name, which only the launcher pdsh supports, not {parallelism.launcher}. Write "
                f"{strip_user(host)}, and the user in ~/.ssh/config."
            )
    is_port_set = config.origins["master_port"] != DEFAULT
    return [
        *(sys.executable, "-u", "-m", "neox_code.launch.fleet"),
        f"--launcher={parallelism.launcher}",
        f"--hosts={json.dumps(found)}",
        f"--stop_timeout={parallelism.stop_timeout_seconds}",
        *([f"--master_addr={parallelism.master_addr}"] if parallelism.master_addr else []),
        *([f"--master_port={parallelism.master_port}"] if is_port_set else []),
    ]


RANDOM_PORTS = range(15_000, 32_768)


def choose_port(port: int, is_default: bool) -> int:
    """Return the port where the ranks connect: `port`, or a random free port if `is_default`.

    The default port is not used, because two runs that start at the same time would both find it free. The random port is below the
    kernel's range for outgoing connections, because such a connection could use it before the ranks start. Raise LaunchError if the
    configured port is in use.
    """
    if is_default:
        return next(filter(is_port_free, iter(lambda: secrets.choice(RANDOM_PORTS), None)))
    if not is_port_free(port):
        raise LaunchError(f"master_port {port} is in use on this host. End the program that uses it, or set another port.")
    return port


def is_port_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
