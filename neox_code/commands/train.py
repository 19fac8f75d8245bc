"""Train a model, or continue with its newest checkpoint.

./deepy.py train CONFIG...                           a rank for each GPU of this machine, or of the hosts in `hostfile`
torchrun -m neox_code.commands.train CONFIG...       the ranks that torchrun starts; so with srun python -m
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence

from neox_code.config.command_line import parse_command_line
from neox_code.launch.command import check_number
from neox_code.launch.hosts import visible_gpus
from neox_code.launch.slurm import adopt_slurm_ranks
from neox_code.launch.supervise import exit_rank

# Our launcher has this in the ranks' environment; for the others it stands before the imports that would complain.
if not visible_gpus():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
warnings.filterwarnings("ignore", "Transformer", UserWarning)
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA toolkit where there is no GPU

from neox_code.training.pretrain import pretrain  # noqa: E402


def main(argv: Sequence[str]) -> int:
    adopt_slurm_ranks()
    config = parse_command_line(argv, __doc__, "train").load()
    config.require_training()
    check_number(int(os.environ.get("WORLD_SIZE", "1")), config)
    pretrain(config)
    return 0


if __name__ == "__main__":
    exit_rank(main, sys.argv[1:])
