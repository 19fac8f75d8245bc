"""Determine the number of ranks that a configuration plans. A dry run divides the model over these ranks, which need not exist on
this machine. Imports no torch.

world = plan_world(config)
world.ranks, world.reason          # 8, "global_num_gpus (8, configs/cluster.yml:3)"
"""

from dataclasses import dataclass
from pathlib import Path

from neox_code.config.neox import NeoXConfig
from neox_code.launch.hosts import LOCALHOST, Resources, find_resources, list_device_numbers, parse_filter

SMALLEST = "the smallest world of this layout, as there is no global_num_gpus, num_gpus or readable hostfile"


@dataclass(frozen=True)
class PlannedWorld:
    hosts: Resources
    """Host -> its devices; each gets a rank."""

    reason: str
    """The key or file that sets the number of ranks."""

    is_given: bool
    """True if a key or file sets the number of ranks; False if the smallest number for the layout was chosen."""

    @property
    def ranks(self) -> int:
        return sum(map(len, self.hosts.values()))


def plan_world(config: NeoXConfig) -> PlannedWorld:
    """Return the planned ranks: the hostfile's if it exists, else the number that keys set, else the smallest possible number.

    The smallest number follows from layout and batch sizes. Raise LaunchError if the hostfile exists and is invalid.
    """
    parallelism = config.parallelism
    if parallelism.hostfile and Path(parallelism.hostfile).is_file():
        return PlannedWorld(find_resources(parallelism), f"hostfile {parallelism.hostfile}", True)
    machines = parallelism.num_nodes or 1
    for key, ranks in (
        ("global_num_gpus", parallelism.global_num_gpus),
        ("num_gpus", (parallelism.num_gpus or 0) * machines),
    ):
        if ranks:
            return PlannedWorld({LOCALHOST: list_device_numbers(ranks)}, config.format_key(key), True)
    named = (parse_filter(parallelism.include) or {}) if parallelism.include else {}
    if named and all(named.values()):
        return PlannedWorld(named, config.format_key("include"), True)
    ranks = max(1, parallelism.pipe_parallel_size) * parallelism.model_parallel_size * infer_data_parallel_size(config)
    return PlannedWorld({LOCALHOST: list_device_numbers(ranks)}, SMALLEST, False)


def infer_data_parallel_size(config: NeoXConfig) -> int:
    """Return train_batch_size / (micro batch size * accumulation steps), or 1 if one is not set or the division has a remainder."""
    given = config.training
    share = (given.train_micro_batch_size_per_gpu or 0) * (given.gradient_accumulation_steps or 0)
    if not share or given.train_batch_size is None or given.train_batch_size % share:
        return 1
    return given.train_batch_size // share
