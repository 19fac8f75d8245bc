"""The hosts and devices of a run. Imports no torch.

    find_resources(config.parallelism)       # {"localhost": ("0", "1")}: host -> the devices that get a rank
    count_ranks(config.parallelism)      # 2
    config = resolve_hostfile(config)

Without a hostfile, or with one that does not exist, the run uses this machine alone, as in GPT-NeoX and DeepSpeed: one rank per
visible GPU, or one rank without GPUs. With `launcher: slurm` in a job of several nodes it uses these nodes, each with as many ranks
as this machine.

A host is written as in the hostfile, for example `node0`, `alice@192.0.2.10` or `fd00::7`; `strip_user` returns its address.
"""

import ipaddress
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from neox_code.config.neox import NeoXConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.errors import LaunchError

LOCALHOST = "localhost"

HOSTFILE_VARIABLE = "DLTS_HOSTFILE"
COMMON_HOSTFILE = Path("/job/hostfile")
COMMON_ORIGIN = "GPT-NeoX's default"
"""Origin shown for a hostfile that the configuration does not set. It is DLTS_HOSTFILE, else /job/hostfile, as in GPT-NeoX."""

Resources = dict[str, tuple[str, ...]]
"""Host -> its devices that get a rank, by number, or by UUID if CUDA_VISIBLE_DEVICES contains UUIDs."""


def count_ranks(parallelism: ParallelismConfig) -> int:
    return sum(map(len, find_resources(parallelism).values()))


def resolve_hostfile(config: NeoXConfig) -> NeoXConfig:
    """Return the configuration with the effective hostfile: the key's value, else DLTS_HOSTFILE, else /job/hostfile.

    If the file does not exist, the key is unset, as in GPT-NeoX and DeepSpeed, and the key's origin names the missing path.
    """
    path, origin = config.parallelism.hostfile, config.origins["hostfile"]
    if path is None and os.environ.get(HOSTFILE_VARIABLE):
        path, origin = os.environ[HOSTFILE_VARIABLE], HOSTFILE_VARIABLE
    elif path is None and COMMON_HOSTFILE.exists():
        path, origin = str(COMMON_HOSTFILE), COMMON_ORIGIN
    if path is not None and not Path(path).exists():
        path, origin = None, f"{path} ({origin}){MISSING}"
    return replace(config, parallelism=replace(config.parallelism, hostfile=path), origins={**config.origins, "hostfile": origin})


MISSING = " does not exist: this machine alone"


def select_local_devices(count: int | None) -> tuple[str, ...]:
    """Return the first `count` visible GPUs (default all). Without GPUs, return `count` CPU processes (default 1)."""
    gpus = find_visible_gpus()
    if not gpus:
        return list_device_numbers(count or 1)
    if count is not None and count > len(gpus):
        raise LaunchError(
            f"{count} ranks need {count} GPUs, and {len(gpus)} are visible here. Set num_gpus to at most {len(gpus)}, or run on a "
            "machine with more, or on several with a hostfile."
        )
    return gpus[:count]


def find_resources(parallelism: ParallelismConfig) -> Resources:
    """Return the hosts and devices of the configuration.

    Raise LaunchError if the hostfile or a filter is invalid, or if there are fewer hosts or GPUs than configured.
    """
    hostfile, asked = parallelism.hostfile, parallelism.num_gpus
    slots = read_hostfile(Path(hostfile)) if hostfile is not None and Path(hostfile).exists() else {}
    nodes = list(slots) or (list_job_nodes() if parallelism.launcher == "slurm" else [])
    check_nodes(len(nodes), parallelism)
    nodes = nodes[: parallelism.num_nodes]
    if slots:
        available = {host: list_device_numbers(min(slots[host], asked or slots[host])) for host in nodes}
    elif nodes:
        available = dict.fromkeys(nodes, select_local_devices(asked))
    else:
        available = {LOCALHOST: select_local_devices(asked or parallelism.global_num_gpus)}
    chosen = filter_resources(available, parallelism.include, parallelism.exclude)
    for host in chosen:
        if slots and asked and asked > slots[host]:
            raise LaunchError(
                f"num_gpus ({asked}) is more than the {slots[host]} slots of {host} in hostfile {hostfile}. Set num_gpus to at "
                f"most {slots[host]}, or give the host as many slots as it has GPUs."
            )
    return chosen


def check_nodes(count: int, parallelism: ParallelismConfig) -> None:
    """Raise LaunchError if there are fewer hosts than `num_nodes`."""
    asked = parallelism.num_nodes or 1
    if asked <= max(count, 1):
        return
    if not count:
        raise LaunchError(
            f"num_nodes ({asked}) needs several machines, and there is no hostfile with their names. Set hostfile to a file with "
            "a line `HOST slots=N` per machine, remove num_nodes, or start the ranks with torchrun or srun."
        )
    where = f"hostfile {parallelism.hostfile} names" if parallelism.hostfile is not None else "the Slurm job has"
    raise LaunchError(f"num_nodes ({asked}) is more than the {count} that {where}. Add hosts there, or set num_nodes to {count}.")


def list_job_nodes() -> list[str]:
    """Return the nodes of this process's Slurm job if there are several, else an empty list."""
    if read_slurm_number(os.environ, "SLURM_JOB_NUM_NODES", default="1") == 1:
        return []
    if shutil.which("scontrol") is None:
        raise LaunchError(
            "launcher slurm needs scontrol to list the job's nodes, and scontrol is not installed here. Start the ranks "
            "themselves: srun python -m neox_code.commands.train CONFIG..."
        )
    command = ["scontrol", "show", "hostnames", read_slurm_variable(os.environ, "SLURM_JOB_NODELIST")]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0 or not listed.stdout.split():
        raise LaunchError(
            f"{' '.join(command)} ended with status {listed.returncode}: {listed.stderr.strip() or 'it lists no node'}. "
            "Check SLURM_JOB_NODELIST, or name the hosts in a hostfile."
        )
    return listed.stdout.split()


def read_slurm_variable(environment: Mapping[str, str], name: str, default: str | None = None) -> str:
    """Return the value of a variable of Slurm, or `default`. Raise LaunchError if the variable is empty and there is no default."""
    value = environment.get(name, "").strip() or default
    if value is None:
        raise LaunchError(
            f"{name} is not set, but Slurm sets it in every job. Start the run by sbatch, srun or salloc, and pass all of Slurm's "
            "variables on (srun --export=ALL); or unset all of them and use a hostfile or torchrun."
        )
    return value


def read_slurm_number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    value = read_slurm_variable(environment, name, default)
    if not re.fullmatch(r"\d+", value, re.ASCII):
        raise LaunchError(f"{name} ({value}) must be a whole number, as Slurm sets it. Do not set it yourself.")
    return int(value)


def list_device_numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def find_visible_gpus() -> tuple[str, ...]:
    """Return this machine's NVIDIA GPUs that CUDA_VISIBLE_DEVICES does not hide; none with DS_ACCELERATOR=cpu."""
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return ()
    return select_visible_gpus(count_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def select_visible_gpus(count: int, visible_devices: str | None) -> tuple[str, ...]:
    """Return the devices that CUDA uses. CUDA reads CUDA_VISIBLE_DEVICES up to the first invalid entry.

    >>> select_visible_gpus(4, None), select_visible_gpus(4, "2,3"), select_visible_gpus(4, "0,-1,2"), select_visible_gpus(0, "0")
    (('0', '1', '2', '3'), ('2', '3'), ('0',), ())
    """
    if visible_devices is None or count == 0:
        return list_device_numbers(count)
    chosen: list[str] = []
    for entry in visible_devices.replace(" ", "").split(","):
        known = int(entry) < count if entry.isdigit() else entry.startswith(("GPU-", "MIG-"))
        if not known:
            break
        chosen.append(entry)
    return tuple(chosen)


def count_gpus() -> int:
    """Return the number of NVIDIA GPUs of this machine by their device files, or else by the list of nvidia-smi."""
    files = sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    if files or shutil.which("nvidia-smi") is None:
        return files
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(1 for line in listed.stdout.splitlines() if line.startswith("GPU ")) if listed.returncode == 0 else 0


def strip_user(host: str) -> str:
    """Return a host's name or address without the user name and without the brackets of IPv6.

    >>> strip_user("alice@192.0.2.10"), strip_user("root@[fd00::7]")
    ('192.0.2.10', 'fd00::7')
    """
    return host.rpartition("@")[2].strip("[]")


def is_this_machine(host: str) -> bool:
    """Return True if the host is this machine, that is, if a socket can be bound to one of its addresses."""
    try:
        found = socket.getaddrinfo(strip_user(host), None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def is_only_this_machine(found: Resources) -> bool:
    """Return True if the run's only host is this machine, under any of its names. Such a run needs no ssh."""
    return len(found) == 1 and all(host == LOCALHOST or is_this_machine(host) for host in found)


def read_hostfile(path: Path) -> dict[str, int]:
    """Return host -> number of slots."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (IsADirectoryError, UnicodeDecodeError):
        raise LaunchError(f"hostfile {path} is not a text file. Write a line `HOST slots=N` per machine.") from None
    return parse_hostfile(text, str(path))


IPV6 = r"[0-9a-fA-F.]*:[0-9a-fA-F:.]*(?:%[\w.-]+)?"
HOST = re.compile(rf"(?:\w[\w.-]*@)?(?:\w(?:[\w.-]*[\w.])?|{IPV6}|\[{IPV6}\])", re.ASCII)
"""Pattern of a host: a name, an IPv4 address, or an IPv6 address with or without brackets; optionally after USER@."""

MOST_SLOTS = 1024
"""Maximum number of slots of a host, equal to the maximum of num_gpus."""

HOST_FORMS = "Write a name or an address, with USER@ before it if ssh needs a user. Write ports in ~/.ssh/config."


def parse_hostfile(text: str, name: str = "hostfile") -> dict[str, int]:
    """Return host -> number of slots from a hostfile's text, in its order; `#` begins a comment.

    >>> parse_hostfile("node0 slots=2\\n# spare\\nalice@192.0.2.7 slots=4\\n")
    {'node0': 2, 'alice@192.0.2.7': 4}
    """
    slots: dict[str, int] = {}
    lines: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.split("#")[0].strip()
        if not content:
            continue
        match = re.fullmatch(r"(\S+)\s+slots\s*=\s*([1-9]\d*)", content, re.ASCII)
        if match is None:
            raise LaunchError(f"{name}:{number} ({content}) is not `HOST slots=N`. Write the line in that form.")
        host = match[1]
        if len(match[2]) > len(str(MOST_SLOTS)) or int(match[2]) > MOST_SLOTS:
            raise LaunchError(
                f"{name}:{number} ({content}) has too many slots: a host has at most {MOST_SLOTS:,}. Write the number of its GPUs."
            )
        if not HOST.fullmatch(host) or not is_valid_host_name(strip_user(host)):
            raise LaunchError(f"{name}:{number} ({host}) is not a host. {HOST_FORMS}")
        machine = machine_of(host)
        if machine in lines:
            first, spelling = lines[machine]
            other = "" if spelling == host else f", as {spelling}"
            raise LaunchError(
                f"{name}:{number} names {host} a second time (first in line {first}{other}). Give each host one line with all its "
                "slots."
            )
        slots[host], lines[machine] = int(match[2]), (number, host)
    if not slots:
        raise LaunchError(f"{name} contains no host. Write a line `HOST slots=N` per machine.")
    return slots


def machine_of(host: str) -> str:
    """Return the same text for all spellings of a host's name or address, and LOCALHOST for this machine. No name is looked up.

    >>> machine_of("me@NODE0."), machine_of("[FD00:0::7]"), machine_of("127.0.0.1"), machine_of(socket.gethostname())
    ('node0', 'fd00::7', 'localhost', 'localhost')
    """
    name = strip_user(host).casefold().rstrip(".")
    with suppress(ValueError):
        address = str(ipaddress.ip_address(name))
        return LOCALHOST if is_this_machine(address) else address
    return LOCALHOST if name in (socket.gethostname().casefold(), "localhost.localdomain") else name


def is_valid_host_name(name: str) -> bool:
    """Return False for a name that looks like an IP address (colons, or numbers with dots) but is not valid; else True."""
    if ":" not in name and not re.fullmatch(r"[\d.]+\.[\d.]+", name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def parse_filter(text: str, hosts: Iterable[str] = ()) -> dict[str, tuple[str, ...]] | None:
    """Return host -> slots from DeepSpeed's notation; () means all slots. Return None if the text is not in this notation.

    A name in `hosts` may contain `@` or `:`. It is found by its whole name or by its address.

    >>> parse_filter("node0@node1:0,2")
    {'node0': (), 'node1': ('0', '2')}
    >>> parse_filter("alice@192.0.2.10:1@fd00::7", ["alice@192.0.2.10", "fd00::7"])
    {'alice@192.0.2.10': ('1',), 'fd00::7': ()}
    """
    known = {name: host for host in hosts for name in (strip_user(host), host)}
    names = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    entry = rf"(?P<host>{names + '|' if names else ''}[^@:]+)(?::(?P<slots>[^@:,]+(?:,[^@:,]+)*))?(?:@(?!$)|$)"
    found, place = {}, 0
    while place < len(text):
        match = re.compile(entry).match(text, place)
        if match is None:
            return None
        found[known.get(match["host"], match["host"])] = tuple(match["slots"].split(",")) if match["slots"] else ()
        place = match.end()
    return found


def filter_resources(available: Mapping[str, tuple[str, ...]], include: str | None, exclude: str | None) -> Resources:
    """Return the hosts and slots that `include` contains, or that `exclude` does not contain, in the hostfile's order.

    Raise LaunchError for an unknown host or slot, and if nothing is left.

    >>> filter_resources({"a": ("0", "1"), "b": ("0", "1")}, None, "a:1@b")
    {'a': ('0',)}
    """
    if not include and not exclude:
        return dict(available)
    named = parse_filter(include or exclude or "", available)
    if named is None or any(host not in available or not set(slots) <= set(available[host]) for host, slots in named.items()):
        there = "@".join(f"{name}:{','.join(devices)}" for name, devices in available.items())
        raise LaunchError(f"{include or exclude} contains an unknown host or slot. Choose among {there}.")
    chosen = {}
    for host, slots in available.items():
        if host in named:
            listed = named[host] or slots
            kept = tuple(slot for slot in slots if (slot in listed) == bool(include))
        else:
            kept = () if include else slots
        if kept:
            chosen[host] = kept
    if not chosen:
        raise LaunchError(f"{include or exclude} leaves no device to run on. Change include or exclude.")
    return chosen
