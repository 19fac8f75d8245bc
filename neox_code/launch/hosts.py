"""Which hosts and devices a run has. Imports no torch.

    resources(config.parallelism)       # {"localhost": ("0", "1")}: of each host, the devices that get a rank
    world_size(config.parallelism)      # 2
    config = with_default_hostfile(config)

Without a hostfile, or with one that does not exist, the run has this machine, as in GPT-NeoX and DeepSpeed: a rank per visible GPU,
or one rank without GPUs. With `launcher: slurm` in a job of several nodes it has these, each like this one.

A host is what its line of the hostfile has, for example `node0`, `alice@192.0.2.10` or `fd00::7`: `address_of` takes it apart.
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
"""GPT-NeoX and DeepSpeed follow these where `hostfile` is not set, the variable first."""

Resources = dict[str, tuple[str, ...]]
"""Host -> the devices on it that get a rank, by number (or UUID, where CUDA_VISIBLE_DEVICES has it)."""


def world_size(parallelism: ParallelismConfig) -> int:
    """Ranks in all."""
    return sum(map(len, resources(parallelism).values()))


def with_default_hostfile(config: NeoXConfig) -> NeoXConfig:
    """The same configuration with the hostfile that is followed: the key's, else DLTS_HOSTFILE's, else /job/hostfile if it exists.

    One that does not exist is left out, as GPT-NeoX and DeepSpeed do, and named in the key's origin.
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


def devices_here(count: int | None) -> tuple[str, ...]:
    """Return the first `count` visible GPUs (default all); on a machine without GPUs that many CPU processes (default 1)."""
    gpus = visible_gpus()
    if not gpus:
        return numbered(count or 1)
    if count is not None and count > len(gpus):
        raise LaunchError(
            f"{count} ranks are asked for, and {len(gpus)} GPUs are visible here. Set num_gpus to at most {len(gpus)}, or run on a "
            "machine with more, or on several with a hostfile."
        )
    return gpus[:count]


def resources(parallelism: ParallelismConfig) -> Resources:
    """The hosts and devices that the configuration asks for.

    Raises LaunchError for a hostfile or filter that cannot be followed, and for more hosts or GPUs than there are.
    """
    hostfile, asked = parallelism.hostfile, parallelism.num_gpus
    slots = read_hostfile(Path(hostfile)) if hostfile is not None and Path(hostfile).exists() else {}
    nodes = list(slots) or (job_nodes() if parallelism.launcher == "slurm" else [])
    check_nodes(len(nodes), parallelism)
    nodes = nodes[: parallelism.num_nodes]
    if slots:
        available = {host: numbered(min(slots[host], asked or slots[host])) for host in nodes}
    elif nodes:
        available = dict.fromkeys(nodes, devices_here(asked))
    else:
        available = {LOCALHOST: devices_here(asked or parallelism.global_num_gpus)}
    chosen = filtered(available, parallelism.include, parallelism.exclude)
    for host in chosen:
        if slots and asked and asked > slots[host]:
            raise LaunchError(
                f"num_gpus ({asked}) is more than the {slots[host]} slots of {host} in hostfile {hostfile}. Set num_gpus to at "
                f"most {slots[host]}, or give the host as many slots as it has GPUs."
            )
    return chosen


def check_nodes(count: int, parallelism: ParallelismConfig) -> None:
    """Raises LaunchError where there are fewer hosts than `num_nodes`: a run on fewer than were meant is no run."""
    asked = parallelism.num_nodes or 1
    if asked <= max(count, 1):
        return
    if not count:
        raise LaunchError(
            f"num_nodes ({asked}) asks for several machines, and no hostfile names them. Set hostfile to a file with a line "
            "`HOST slots=N` per machine, remove num_nodes, or start the ranks with torchrun or srun."
        )
    where = f"hostfile {parallelism.hostfile} names" if parallelism.hostfile is not None else "the Slurm job has"
    raise LaunchError(f"num_nodes ({asked}) is more than the {count} that {where}. Add hosts there, or set num_nodes to {count}.")


def job_nodes() -> list[str]:
    """The nodes of the Slurm job that this process is in, where they are several."""
    if slurm_number(os.environ, "SLURM_JOB_NUM_NODES", default="1") == 1:
        return []
    if shutil.which("scontrol") is None:
        raise LaunchError(
            "launcher slurm asks scontrol for the job's nodes, and it is not installed here. Start the ranks themselves: "
            "srun python -m neox_code.commands.train CONFIG..."
        )
    command = ["scontrol", "show", "hostnames", slurm_variable(os.environ, "SLURM_JOB_NODELIST")]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0 or not listed.stdout.split():
        raise LaunchError(
            f"{' '.join(command)} ended with status {listed.returncode}: {listed.stderr.strip() or 'it lists no node'}. "
            "Check SLURM_JOB_NODELIST, or name the hosts in a hostfile."
        )
    return listed.stdout.split()


def slurm_variable(environment: Mapping[str, str], name: str, default: str | None = None) -> str:
    """Raises LaunchError where Slurm has not set the variable, or set it to nothing."""
    value = environment.get(name, "").strip() or default
    if value is None:
        raise LaunchError(
            f"{name} is not set, but Slurm sets it in every job. Start the run by sbatch, srun or salloc, and pass all of Slurm's "
            "variables on (srun --export=ALL); or unset all of them and use a hostfile or torchrun."
        )
    return value


def slurm_number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    value = slurm_variable(environment, name, default)
    if not re.fullmatch(r"\d+", value, re.ASCII):
        raise LaunchError(f"{name} ({value}) must be a whole number, as Slurm sets it. Do not set it yourself.")
    return int(value)


def numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def visible_gpus() -> tuple[str, ...]:
    """This machine's NVIDIA GPUs, those that CUDA_VISIBLE_DEVICES hides left out; none with DS_ACCELERATOR=cpu."""
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return ()
    return chosen_gpus(count_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def chosen_gpus(count: int, visible_devices: str | None) -> tuple[str, ...]:
    """The devices that CUDA sees: it reads the list up to the first entry that is no device.

    >>> chosen_gpus(4, None), chosen_gpus(4, "2,3"), chosen_gpus(4, "0,-1,2"), chosen_gpus(0, "0")
    (('0', '1', '2', '3'), ('2', '3'), ('0',), ())
    """
    if visible_devices is None or count == 0:
        return numbered(count)
    chosen: list[str] = []
    for entry in visible_devices.replace(" ", "").split(","):
        known = int(entry) < count if entry.isdigit() else entry.startswith(("GPU-", "MIG-"))
        if not known:
            break
        chosen.append(entry)
    return tuple(chosen)


def count_gpus() -> int:
    """NVIDIA GPUs of this machine, by their device files, or else as the driver's own tool lists them."""
    files = sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    if files or shutil.which("nvidia-smi") is None:
        return files
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(1 for line in listed.stdout.splitlines() if line.startswith("GPU ")) if listed.returncode == 0 else 0


def address_of(host: str) -> str:
    """A host's name or address, without the user that pdsh connects as and without the brackets of IPv6.

    >>> address_of("alice@192.0.2.10"), address_of("root@[fd00::7]")
    ('192.0.2.10', 'fd00::7')
    """
    return host.rpartition("@")[2].strip("[]")


def is_here(host: str) -> bool:
    """True if a host is this machine: one of its addresses can be bound to."""
    try:
        found = socket.getaddrinfo(address_of(host), None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def is_only_here(found: Resources) -> bool:
    """True if the run has this machine alone, under whatever name: it needs no ssh."""
    return len(found) == 1 and all(host == LOCALHOST or is_here(host) for host in found)


def read_hostfile(path: Path) -> dict[str, int]:
    """Slots by host."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (IsADirectoryError, UnicodeDecodeError):
        raise LaunchError(f"hostfile {path} is not a text file. Write a line `HOST slots=N` per machine.") from None
    return parse_hostfile(text, str(path))


IPV6 = r"[0-9a-fA-F.]*:[0-9a-fA-F:.]*(?:%[\w.-]+)?"
HOST = re.compile(rf"(?:\w[\w.-]*@)?(?:\w(?:[\w.-]*[\w.])?|{IPV6}|\[{IPV6}\])", re.ASCII)
"""A host's name, or an IPv4 or IPv6 address; the latter with or without brackets."""

MOST_SLOTS = 1024
"""As of num_gpus."""

HOST_FORMS = "A host is a name or an address, USER@ before it where ssh needs that; ports belong in ~/.ssh/config. One line each."


def parse_hostfile(text: str, name: str = "hostfile") -> dict[str, int]:
    """The hosts of a hostfile's text, in order, with their slots; `#` begins a comment.

    >>> parse_hostfile("node0 slots=2\\n# spare\\nalice@192.0.2.7 slots=4\\n")
    {'node0': 2, 'alice@192.0.2.7': 4}
    """
    slots: dict[str, int] = {}
    lines: dict[str, int] = {}
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
        if not HOST.fullmatch(host) or not is_address(address_of(host)):
            raise LaunchError(f"{name}:{number} ({host}) is no host. {HOST_FORMS}")
        machine = machine_of(host)
        if machine in lines:
            raise LaunchError(
                f"{name}:{number} names {host} a second time (first in line {lines[machine]}). Give each host one line with all "
                "its slots."
            )
        slots[host], lines[machine] = int(match[2]), number
    if not slots:
        raise LaunchError(f"{name} names no host. Write a line `HOST slots=N` per machine.")
    return slots


def machine_of(host: str) -> str:
    """Return one spelling for all spellings of a host's name or address.

    >>> machine_of("me@NODE0."), machine_of("[FD00:0::7]")
    ('node0', 'fd00::7')
    """
    name = address_of(host).casefold().rstrip(".")
    with suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name


def is_address(name: str) -> bool:
    """False for what looks like an IPv6 address or one of four numbers, and is none; True for any other name."""
    if ":" not in name and not re.fullmatch(r"[\d.]+\.[\d.]+", name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def parse_filter(text: str, hosts: Iterable[str] = ()) -> dict[str, tuple[str, ...]] | None:
    """DeepSpeed's notation for hosts and slots; no slots means all of the host. None where it is not in this notation.

    Known `hosts` are found whole, with the `@` or `:` that their names have, or by their address alone.

    >>> parse_filter("node0@node1:0,2")
    {'node0': (), 'node1': ('0', '2')}
    >>> parse_filter("alice@192.0.2.10:1@fd00::7", ["alice@192.0.2.10", "fd00::7"])
    {'alice@192.0.2.10': ('1',), 'fd00::7': ()}
    """
    known = {name: host for host in hosts for name in (address_of(host), host)}
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


def filtered(available: Mapping[str, tuple[str, ...]], include: str | None, exclude: str | None) -> Resources:
    """The hosts and slots that `include` names, or that `exclude` does not, in the hostfile's order.

    Raises LaunchError for a host or slot that is not there, and where nothing is left.

    >>> filtered({"a": ("0", "1"), "b": ("0", "1")}, None, "a:1@b")
    {'a': ('0',)}
    """
    if not include and not exclude:
        return dict(available)
    named = parse_filter(include or exclude or "", available)
    if named is None or any(host not in available or not set(slots) <= set(available[host]) for host, slots in named.items()):
        there = "@".join(f"{name}:{','.join(devices)}" for name, devices in available.items())
        raise LaunchError(f"{include or exclude} names a host or slot that is not there. Choose among {there}.")
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
