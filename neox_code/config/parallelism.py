"""Keys that determine how the model is divided over processes, and how the processes are started."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ParallelismConfig:
    pipe_parallel_size: int = 0
    """Pipeline stages. 2 and more use DeepSpeed's pipeline engine. 0 and 1 train alike: checkpoints have all weights of a tensor
    rank in one file with 0, a file a layer with 1."""

    model_parallel_size: int = 1
    """Tensor-parallel ranks that share each layer."""

    sequence_parallel: bool = False
    """True: between the divided layers, each tensor-parallel rank holds a part of every sequence: norms, dropout and residuals take
    1 / `model_parallel_size` of the memory. `seq_length` must be a multiple of `model_parallel_size`."""

    pipe_partition_method: str = "type:transformer|mlp"
    """How layers are divided over stages: `type:REGEX` (equal numbers of matching layers), `parameters` or `uniform`."""

    checkpoint_activations: bool = False
    """Recompute activations in the backward pass instead of keeping them."""

    checkpoint_num_layers: int = 1
    """Layers between two kept activations, with `checkpoint_activations`."""

    checkpoint_granularity: Literal["block", "attention"] = "block"
    """Part of each block whose activations are recomputed with `checkpoint_activations`: the whole block, or only attention from
    the queries, keys and values on, which needs less time and saves the memory of the probabilities."""

    distributed_backend: Literal["nccl", "gloo"] | None = None
    """Library for communication between ranks; default nccl with GPUs and gloo without. Without GPUs, nccl is read as gloo."""

    distributed_timeout_seconds: int = 1800
    """Seconds that a rank waits for the other ranks before it fails."""

    hang_timeout_seconds: float | None = None
    """Seconds after which a run counts as hanging and is ended, if no step or validation batch has ended; 0 for never. The time
    of saving is not counted. Default with several ranks: 5 s plus three times the longest of the last 100 steps, at least 15 s;
    with one rank: never."""

    stop_timeout_seconds: float = 600.0
    """Seconds for finishing the step and saving after SIGTERM, SIGINT or SIGUSR1. After this time the run is killed."""

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
    """Port on the first host to which all ranks connect at the start."""

    launcher: Literal["pdsh", "openmpi", "mpich", "slurm"] = "pdsh"
    """Program that starts ranks on several hosts."""

    @property
    def recomputes_blocks(self) -> bool:
        """True if the backward pass recomputes whole blocks."""
        return self.checkpoint_activations and self.checkpoint_granularity == "block"
