"""Start and end the process groups of a rank. The rank's environment variables determine its grid (sizes and ranks of the axes).

    with startup(config.parallelism) as grid:
        ...

Rank, world size and the address of the first host are in RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
`launch/ranks.py`, DeepSpeed's launcher and torchrun set them, and `launch/slurm_ranks.py` sets them for srun. Without them the
process is the only rank.
"""

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

import neox_code.parallel.megatron_core  # noqa: F401 - imports megatron.core first

# isort: split
from megatron.core import parallel_state
from torch.nn.attention import SDPBackend, sdpa_kernel

from neox_code.config.derive import compute_data_parallel_size
from neox_code.config.parallelism import ParallelismConfig
from neox_code.errors import LaunchError
from neox_code.logs import get_logger
from neox_code.parallel.allocator import set_allocator
from neox_code.parallel.divided_layers import DividedLayers
from neox_code.parallel.grid import WHOLE_LAYERS, ParallelGrid, select_device

log = get_logger(__name__)


@contextmanager
def startup(parallelism: ParallelismConfig) -> Iterator[ParallelGrid]:
    """Connect with the other ranks (NCCL with GPUs, gloo without), yield this rank's grid, and end the process group.

    After an exception on one of several ranks the group is not ended here, because this could hang; it ends with the process. Raise
    ConfigError if the world size is not a multiple of pipeline x tensor size. Raise LaunchError if the ranks cannot connect.
    """
    rank, world_size, local_rank = read_rank_variables()
    for (name, _), value in zip(ENVIRONMENT, (rank, world_size, local_rank), strict=True):
        os.environ[name] = str(value)
    pipeline_size = max(1, parallelism.pipe_parallel_size)
    tensor_size = parallelism.model_parallel_size
    data_size = compute_data_parallel_size(world_size, pipeline_size, tensor_size)
    device = select_device(local_rank)
    if tensor_size > 1:
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")  # lets megatron-core overlap its all-reduce with the matmul
    set_allocator(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join_process_group(rank, world_size, device, parallelism)
    try:
        parallel_state.initialize_model_parallel(tensor_size, pipeline_size)
        group = parallel_state.get_tensor_model_parallel_group()
        sequence_group = group if tensor_size > 1 and parallelism.sequence_parallel else None
        with prefer_fast_attention(device):
            yield ParallelGrid(
                pipeline_size=pipeline_size,
                data_size=data_size,
                tensor_size=tensor_size,
                rank=rank,
                device=device,
                layers=DividedLayers(tensor_size, group, sequence_group) if tensor_size > 1 else WHOLE_LAYERS,
                tensor_group=group,
                sequence_group=sequence_group,
                data_group=parallel_state.get_data_parallel_group(),
            )
    except BaseException:
        if world_size == 1:  # with more ranks, ending the group could wait for ever; the end of the process frees them
            leave_process_groups()
        raise
    leave_process_groups()


@contextmanager
def prefer_fast_attention(device: torch.device) -> Iterator[None]:
    """Within the block, torch chooses the first of these attention kernels that accepts its inputs, and logs their order once.

    torch's own order begins with flash attention 2, which reaches about half of cuDNN's speed on Hopper.
    """
    if device.type != "cuda":
        yield
        return
    fast = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    order = [*(fast if torch.cuda.get_device_capability(device) >= (9, 0) else fast[::-1]), SDPBackend.EFFICIENT_ATTENTION]
    log.info("attention kernels, the first that fits: %s", ", ".join(backend.name.split("_")[0].lower() for backend in order))
    with sdpa_kernel([*order, SDPBackend.MATH], set_priority=True):
        yield


def leave_process_groups() -> None:
    """End the process groups."""
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()


ENVIRONMENT = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
"""Variable and its default. The defaults are set for a single process, because DeepSpeed reads the variables."""


def read_rank_variables() -> tuple[int, int, int]:
    """Return RANK, WORLD_SIZE and LOCAL_RANK. Raise LaunchError if one of these, MASTER_ADDR or MASTER_PORT is not valid."""
    values = {name: os.environ.get(name, "").strip() or default for name, default in ENVIRONMENT}
    if "MASTER_ADDR" in os.environ or values["WORLD_SIZE"] != "1":
        values["MASTER_PORT"] = os.environ.get("MASTER_PORT", "")
    for name, value in values.items():
        if not re.fullmatch(r"\d+", value, re.ASCII):
            raise LaunchError(f"{name} ({value or 'not set'}) must be a whole number. {BY_LAUNCHER}")
    rank, world_size, local_rank = (int(values[name]) for name, _ in ENVIRONMENT)
    if rank >= world_size:
        raise LaunchError(f"RANK ({rank}) must be less than WORLD_SIZE ({world_size}). {BY_LAUNCHER}")
    if int(values.get("MASTER_PORT", "1")) not in range(1, 1 << 16):
        raise LaunchError(f"MASTER_PORT ({values['MASTER_PORT']}) must be a port, 1 to 65535. {BY_LAUNCHER}")
    if world_size > 1 and not os.environ.get("MASTER_ADDR"):
        raise LaunchError(f"MASTER_ADDR (not set) must be the address of the first of {world_size} ranks. {BY_LAUNCHER}")
    return rank, world_size, local_rank


BY_LAUNCHER = "Start the ranks by ./deepy.py train, torchrun or srun, which set it; by hand, set it for each rank."

ADDRESS_SECONDS = 120.0
"""Maximum seconds to wait for an address of the first host's name. In Kubernetes a name has an address only while its pod runs."""


def wait_for_address(host: str, timeout_seconds: float) -> None:
    """Wait until `host` resolves to an address. Raise LaunchError if it does not within `timeout_seconds`."""
    deadline = time.monotonic() + min(timeout_seconds, ADDRESS_SECONDS)
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"{socket.gethostname()} finds no address for MASTER_ADDR ({host}): {error}. Set MASTER_ADDR (with ./deepy.py: "
                    "the key master_addr) to a name or an address of the first host. All hosts must be able to reach it."
                ) from None
            time.sleep(1)


def join_process_group(rank: int, world_size: int, device: torch.device, parallelism: ParallelismConfig) -> None:
    """Initialize torch.distributed's process group over all ranks. Raise LaunchError if the ranks cannot connect."""
    if world_size == 1 and "MASTER_ADDR" not in os.environ:
        store: dist.Store | None = dist.HashStore()
    else:
        store = None
        wait_for_address(os.environ["MASTER_ADDR"], parallelism.distributed_timeout_seconds)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" and parallelism.distributed_backend != "gloo" else "gloo",
            rank=rank,
            world_size=world_size,
            store=store,
            timeout=timedelta(seconds=parallelism.distributed_timeout_seconds),
            device_id=device if device.type == "cuda" and parallelism.distributed_backend != "gloo" else None,
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise LaunchError(
            f"rank {rank} of {world_size} on {socket.gethostname()} could not connect with the others at {place}: "
            f"{str(error).splitlines()[0].rstrip('.')}. {describe_unknown_interface()}"
            "Check that the first host answers at this address and port, and that no other run uses the port (master_port)."
        ) from None


def describe_unknown_interface() -> str:
    """Return a sentence on GLOO_SOCKET_IFNAME if it names an interface that this host lacks, else an empty string."""
    name = os.environ.get("GLOO_SOCKET_IFNAME", "")
    known = [interface for _, interface in socket.if_nameindex()]
    if not name or set(name.split(",")) <= set(known):
        return ""
    return f"GLOO_SOCKET_IFNAME ({name}) must name network interfaces of this host ({', '.join(known)}). "


def require_same_everywhere(configuration: str) -> None:
    """Raise LaunchError if another rank has merged a different configuration than rank 0. The message names the hosts."""
    if dist.get_world_size() == 1:
        return
    digest = hashlib.sha256(configuration.encode()).hexdigest()
    merged: list[tuple[str, str]] = [("", "")] * dist.get_world_size()
    dist.all_gather_object(merged, (socket.gethostname(), digest))
    others = sorted({host for host, other in merged if other != merged[0][1]})
    if others:
        raise LaunchError(
            f"the merged configuration on {', '.join(others)} differs from rank 0's on {merged[0][0]}. Give all hosts the "
            "same configuration files (compare them with ./deepy.py train CONFIG... --dry-run on each)."
        )
