"""Train a model, or continue with its newest checkpoint.

./deepy.py train CONFIG...                           start one rank per GPU, on this host or on the hosts in `hostfile`
torchrun -m neox_code.commands.train CONFIG...       use the ranks that torchrun starts; the same with srun python -m

After SIGTERM, SIGINT (Ctrl-C) or SIGUSR1 the run finishes its step, saves a checkpoint and exits with status 75. Rerun the same
command to resume. A second SIGTERM or SIGINT ends the run at once. The run is also ended when stop_timeout_seconds have passed.
`./deepy.py train --max-restarts N` starts again from the newest checkpoint in `save` after a failure; with --min-nodes M
without the hosts that are down.
"""

import sys
from collections.abc import Sequence

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.errors import EXIT_RESUME, ConfigError
from neox_code.launch.command import check_num_ranks
from neox_code.launch.rank_process import prepare_imports, run_and_exit
from neox_code.launch.slurm_ranks import set_rank_variables
from neox_code.launch.stop_signals import StopRequest

STOP = StopRequest()
if __name__ == "__main__":
    STOP.start()  # before torch starts threads

prepare_imports()

from neox_code.parallel.startup import read_rank_variables  # noqa: E402
from neox_code.training.pretrain import pretrain  # noqa: E402


def main(argv: Sequence[str]) -> int:
    """Train on this rank; return 0, or EXIT_RESUME if a signal ended the run."""
    set_rank_variables()
    _, world_size, _ = read_rank_variables()
    command_line = parse_command_line(argv, __doc__, "train")
    if command_line.max_restarts:
        raise ConfigError("--max-restarts is an option of ./deepy.py train. torchrun and Slurm have options of their own.")
    config = load_config(command_line)
    config.require_training_keys()
    check_num_ranks(world_size, config)
    pretrain(config, STOP)
    return EXIT_RESUME if STOP.was_followed else 0


if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:])
