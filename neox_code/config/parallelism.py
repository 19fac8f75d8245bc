"""Keys of the division of the model over processes, and of starting the processes."""

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
    """A run is ended as hanging if no step or validation batch ends within this time, except while it saves; 0 for never. Default
    with several ranks: 5 s plus three times the longest of the last 100 steps, at least 15 s; with one rank: never."""

    stop_timeout_seconds: float = 600.0
    """Time limit for finishing the step and saving after SIGTERM, SIGINT or SIGUSR1. After it the run is killed."""

    global_num_gpus: int | None = None
    """Total number of ranks; a dry run uses it if it cannot determine the number from hosts."""

    hostfile: str | None = None
    """File with a line `HOST slots=N` per machine; default: the variable DLTS_HOSTFILE, else /job/hostfile if it exists, else none.
    HOST is a name or an address, or USER@ and one of these with pdsh. Without the file the run uses this machine alone."""

    include: str | None = None
    """Hosts and slots to use, in DeepSpeed's notation `host1@host2:0,1`."""

    exclude: str | None = None
    """Hosts and slots not to use, in the notation of `include`."""

    num_nodes: int | None = None
    """Number of hosts to use, the first ones of the hostfile or of the Slurm job; default (and -1) all."""

    num_gpus: int | None = None
    """Ranks on each machine; default (and -1) one per GPU, or 1 without GPUs."""

    master_addr: str | None = None
    """Address of the first host; default: determined by the launcher."""

    master_port: int = 29500
    """Port on the first host where ranks meet."""

    launcher: Literal["pdsh", "openmpi", "mpich", "slurm"] = "pdsh"
    """Program that starts ranks on several hosts."""
