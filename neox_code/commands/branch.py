"""Train a branch of a run: its learning rate falls to min_lr in the steps after a checkpoint.

./deepy.py branch checkpoints/trunk/global_step8000 --iterations 2000 --save checkpoints/branch
./deepy.py branch checkpoints/trunk --iterations 500 --save checkpoints/other --set train_data_weights=[1,3]
./deepy.py report checkpoints/trunk checkpoints/branch checkpoints/other

The trunk is a run at a stable rate (lr_decay_style: constant, or wsd before its decay). The branch begins with the trunk's weights,
optimizer state, configuration and next samples. All other options are those of train. Rerun the same command to resume.
"""

import json
import math
import os
import sys
from collections.abc import Sequence

from neox_code.checkpoint.layout import MERGED_CONFIG, find_checkpoint
from neox_code.checkpoint.record import read_record
from neox_code.config.command_line import Parser, parse_path, parse_positive_integer
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError, ConfigError, run_command
from neox_code.installation import LAUNCHER
from neox_code.training.schedule import compute_schedule_position, compute_scheduled_rate, compute_warmup_updates, plan_branch


def make_train_arguments(argv: Sequence[str]) -> list[str]:
    """Return the arguments of `train` for a branch. Raise CheckpointError or ConfigError if there can be no such branch."""
    parser = Parser(__doc__, f"{LAUNCHER} branch")
    parser.add_argument(
        "checkpoint", type=parse_path, metavar="CHECKPOINT", help="folder global_stepN, or a run's folder: its newest"
    )
    parser.add_argument(
        "--iterations", type=parse_positive_integer, required=True, metavar="N", help="number of steps of the branch"
    )
    parser.add_argument("--save", type=parse_path, required=True, metavar="FOLDER", help="folder of the branch's checkpoints")
    own, others = parser.parse_known_args(argv)
    folder = find_checkpoint(own.checkpoint)
    record, file = read_record(folder), folder / "configs" / MERGED_CONFIG
    if record is None or not file.is_file():
        raise CheckpointError(f"{folder} has no run.json with its configuration. A branch begins with a checkpoint of train.")
    if own.save.resolve() == folder.parent.resolve():
        raise ConfigError(f"--save {own.save} is the folder of the trunk. Choose another.")
    config = NeoXConfig.load([str(file)])
    updates = record.iteration - int(record.state.get("skipped_iterations", 0))
    steps, seconds = config.training.num_steps, float(record.state.get("training_seconds", 0.0))
    position = compute_schedule_position(updates, steps, seconds, config.training.train_seconds)
    rate = compute_scheduled_rate(position, config.optimizer, steps)
    assert config.optimizer.lr is not None
    if not math.isclose(rate, config.optimizer.lr):
        raise ConfigError(
            f"{folder} is at learning rate {rate:g}, not at lr {config.optimizer.lr:g}: it is in the warm-up or in the decay. "
            "Choose another checkpoint of the trunk, or a trunk with lr_decay_style wsd or constant."
        )
    place = {"load": str(folder.parent), "iteration": record.iteration, "save": str(own.save), "train_seconds": None}
    plain = {"finetune": False, "no_load_optim": False, "lr_decay_fraction": None, "exit_interval": None}
    plan = plan_branch(record.iteration, updates, own.iterations, compute_warmup_updates(config.optimizer, steps))
    settings = [f"{key}={json.dumps(value)}" for key, value in (place | plain | plan).items()]
    return [str(file), *(word for setting in settings for word in ("--set", setting)), *others]


def main(argv: Sequence[str]) -> int:
    """Replace this process by `train`."""
    command = [sys.executable, "-m", "neox_code.commands", "train", *make_train_arguments(argv)]
    sys.stdout.flush()
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
