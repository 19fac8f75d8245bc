"""Refuse several copies of ./deepy.py train, because each copy would start all ranks.

require_one_copy(os.environ, ["configs/small.yml"])        # raises LaunchError in a task of `srun -n 8 ./deepy.py train ...`
"""

import shlex
from collections.abc import Mapping, Sequence

from neox_code.errors import LaunchError

LAUNCHERS = {
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "srun", "srun python -m {module}", "srun --ntasks=1 ./deepy.py train"),
    "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK", "mpirun", "torchrun --nproc-per-node=N -m {module}", "./deepy.py train"),
    "PMI_SIZE": ("PMI_RANK", "mpiexec", "torchrun --nproc-per-node=N -m {module}", "./deepy.py train"),
    "WORLD_SIZE": ("RANK", "torchrun", "torchrun --nproc-per-node=N -m {module}", "./deepy.py train"),
}
"""Variable with the number of processes -> variable with a process's index, launcher's name, its command for several ranks, its
command for one process."""

MODULE = "neox_code.commands.train"


def require_one_copy(environment: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Raise LaunchError if a launcher has started several copies of this process. The message contains the right command."""
    for size, (rank, launcher, ranks, one) in LAUNCHERS.items():
        count = environment.get(size, "1")
        if rank in environment and count.isdecimal() and int(count) > 1:
            joined = shlex.join(arguments)
            raise LaunchError(
                f"{launcher} started {count} copies of ./deepy.py ({size}), each of which would be a whole run. "
                f"Let {launcher} start the ranks: {ranks.format(module=MODULE)} {joined} ; or "
                f"start one copy, which starts its own ranks: {one} {joined}"
            )
