"""Pretraining on this rank: `./deepy.py train CONFIG...`; `torchrun -m` or `srun python -m` with `neox_code.commands.train`."""

import sys
from collections.abc import Sequence

from neox_code.config.command_line import parse_command_line
from neox_code.launch.slurm import adopt_slurm_ranks
from neox_code.launch.supervise import run_rank
from neox_code.logs import copy_log
from neox_code.training.pretrain import pretrain


def main(argv: Sequence[str]) -> int:
    adopt_slurm_ranks()
    config = parse_command_line(argv, __doc__).load()
    config.require_training()
    if config.training.log_dir:
        copy_log(config.training.log_dir)
    pretrain(config)
    return 0


if __name__ == "__main__":
    sys.exit(run_rank(main, sys.argv[1:]))
