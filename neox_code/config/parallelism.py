"""How the model is laid over processes, and how the processes are started."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ParallelismConfig:
    pipe_parallel_size: int = 0
    """Pipeline stages. 0 runs the layers as one plain module without DeepSpeed's pipeline engine; 1 and more use it."""

    model_parallel_size: int = 1
    """Tensor-parallel ranks that share each layer."""

    pipe_partition_method: str = "type:transformer|mlp"
    """How layers are divided over stages: `type:REGEX` (equal numbers of matching layers), `parameters` or `uniform`."""

    checkpoint_activations: bool = False
    """Recompute activations in the backward pass instead of keeping them."""

    checkpoint_num_layers: int = 1
    """Layers between two kept activations, with `checkpoint_activations`."""

    distributed_backend: Literal["nccl", "gloo"] | None = None
    """Collectives library; default nccl with GPUs and gloo without. nccl on a machine without GPUs runs as gloo."""

    distributed_timeout_seconds: int = 1800
    """Time that a rank waits for the others before it fails."""

    hang_timeout_seconds: float | None = None
    """A run is ended as hanging when no step or validation batch ends for so long, except while it saves; 0 for never. Default with
    several ranks: 5 s and three times the longest of the last 100 steps, at least 15 s; with one rank: never."""

    stop_timeout_seconds: float = 600.0
    """Time that a run has to finish its step and save after SIGTERM, SIGINT or SIGUSR1, before it is killed."""

    global_num_gpus: int | None = None
    """Number of all ranks, for a dry run on a machine that cannot determine it."""

    hostfile: str | None = None
    """File with a line `HOST slots=N` per machine; default: DLTS_HOSTFILE, else /job/hostfile where it is, else none. HOST is a
    name or an address, `USER@` before it where pdsh needs that. Without the file the run has this machine alone."""

    include: str | None = None
    """Hosts and slots to use, in DeepSpeed's notation `host1@host2:0,1`."""

    exclude: str | None = None
    """Hosts and slots not to use, in the same notation."""

    num_nodes: int | None = None
    """Use the first so many hosts of the host file or of Slurm's job; default (and -1) all."""

    num_gpus: int | None = None
    """Ranks on each machine; default (and -1) one per GPU, or 1 without GPUs."""

    master_addr: str | None = None
    """Address of the first host; default: determined by the launcher."""

    master_port: int = 29500
    """Port on the first host where ranks meet."""

    launcher: Literal["pdsh", "openmpi", "mpich", "slurm"] = "pdsh"
    """Program that starts ranks on several hosts."""
