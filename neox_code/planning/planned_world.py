"""The ranks that a configuration speaks of, whatever this machine has: what a dry run lays the model over. Imports no torch.

world = planned_world(config)
world.ranks, world.because          # 8, "global_num_gpus (8, configs/cluster.yml:3)"
"""

from dataclasses import dataclass
from pathlib import Path

from neox_code.config.neox import NeoXConfig
from neox_code.launch.hosts import LOCALHOST, Resources, numbered, parse_filter, resources

SMALLEST = "the smallest world that the layout needs, without global_num_gpus, num_gpus or a readable host file"


@dataclass(frozen=True)
class PlannedWorld:
    hosts: Resources
    """Host -> the devices on it that would get a rank."""

    because: str
    """What says so."""

    is_given: bool
    """False where nothing says so, and the smallest world was taken that the layout needs."""

    @property
    def ranks(self) -> int:
        return sum(map(len, self.hosts.values()))


def planned_world(config: NeoXConfig) -> PlannedWorld:
    """The ranks by the host file, where it is here, else by the keys, else as few as the layout and the batch need.

    Raises LaunchError for a host file that is here and cannot be followed.
    """
    parallelism = config.parallelism
    if parallelism.hostfile and Path(parallelism.hostfile).is_file():
        return PlannedWorld(resources(parallelism), f"hostfile {parallelism.hostfile}", True)
    machines = parallelism.num_nodes or 1
    for key, ranks in (
        ("global_num_gpus", parallelism.global_num_gpus),
        ("num_gpus", (parallelism.num_gpus or 0) * machines),
    ):
        if ranks:
            return PlannedWorld({LOCALHOST: numbered(ranks)}, config.said(key), True)
    named = (parse_filter(parallelism.include) or {}) if parallelism.include else {}
    if named and all(named.values()):
        return PlannedWorld(named, config.said("include"), True)
    ranks = max(1, parallelism.pipe_parallel_size) * parallelism.model_parallel_size * copies_of_the_batch(config)
    return PlannedWorld({LOCALHOST: numbered(ranks)}, SMALLEST, False)


def copies_of_the_batch(config: NeoXConfig) -> int:
    """Data-parallel ranks that the three batch sizes, all given, come out even with; else 1."""
    given = config.training
    share = (given.train_micro_batch_size_per_gpu or 0) * (given.gradient_accumulation_steps or 0)
    if not share or given.train_batch_size is None or given.train_batch_size % share:
        return 1
    return given.train_batch_size // share
