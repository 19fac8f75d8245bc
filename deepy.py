#!/usr/bin/env python3
"""The launcher: runs a script of neox_code/commands with configuration files.

    ./deepy.py train.py -d configs small.yml local_setup.yml
    ./deepy.py generate.py configs/small.yml configs/local_setup.yml configs/text_generation.yml -i prompt.txt
    ./deepy.py train.py configs/small.yml configs/local_setup.yml --set train_iters=10 --dry-run

`train` runs on every rank that the configuration asks for, each of which merges the same files for itself; every other script
runs in this process and reads its own options. `--dry-run` judges the configuration alone and shows what it comes to, with what a
run needs and this machine lacks; `--gpu-memory-gib N` asks whether its layout fits.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from neox_code.config.command_line import CommandLine, parse_command_line
from neox_code.config.derive import data_parallel_size
from neox_code.config.neox import TRAINING_NEEDS, NeoXConfig
from neox_code.errors import ConfigError, run_command
from neox_code.launch.command import QUIET, launch_command, launch_environment, remarks
from neox_code.launch.dry_run import described
from neox_code.launch.hosts import visible_gpus, with_default_hostfile, world_size
from neox_code.launch.not_here import stopping
from neox_code.launch.planned_world import planned_world
from neox_code.launch.supervise import run

ROOT = Path(__file__).resolve().parent
COMMANDS = "neox_code.commands"
ALIASES = {"eval": "evaluate"}
LAUNCHED = ("train",)
"""Scripts that run on ranks."""

CONFIGURED = (*LAUNCHED, "generate", "evaluate")
"""Scripts whose arguments are configuration files and the options that go with them."""


def main(argv: Sequence[str]) -> int:
    """Returns an exit status, or becomes the script."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    script, arguments = script_name(argv[0]), list(argv[1:])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if script in LAUNCHED or (script in CONFIGURED and "--dry-run" in arguments):
        return run_configured(script, parse_command_line(arguments, f"Runs {script}.", prog=f"./deepy.py {script}"))
    return become(command_here(script, arguments))


def run_configured(script: str, command_line: CommandLine) -> int:
    config = NeoXConfig.load(command_line.config_paths, command_line.overrides)
    if script in LAUNCHED:
        config = with_default_hostfile(config)
    words = CommandLine(command_line.config_paths, command_line.overrides).arguments
    if command_line.dry_run:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # paths may have letters that the terminal's encoding lacks
        print(dry_run(script, words, config, command_line.gpu_memory_gib))
        return 0
    command = command_on_ranks(script, words, config)
    for line in remarks(config):
        print(line, file=sys.stderr)
    return run(command, launch_environment(config))


def dry_run(script: str, words: Sequence[str], config: NeoXConfig, gpu_memory_gib: float | None) -> str:
    """What the configuration comes to on the ranks that it speaks of; raises ConfigError where it contradicts itself."""
    if script not in LAUNCHED:
        if gpu_memory_gib is not None:
            raise ConfigError(f"--gpu-memory-gib judges a layout for training, and {script} has none. Use it with train.")
        return described(config, script, command_here(script, words), None)
    config.require_training(data=False)
    world = planned_world(config)
    command = launch_command(f"{COMMANDS}.{script}", words, config, world.hosts)
    return described(config, script, command, world, gpu_memory_gib)


def command_on_ranks(script: str, words: Sequence[str], config: NeoXConfig) -> list[str]:
    """The command that starts the ranks; an error here is better than the same one from each of them."""
    missing = [*config.missing(TRAINING_NEEDS), *(f"not here: {sentence}" for sentence in stopping(config, script))]
    if missing:
        raise ConfigError("\n".join(missing))
    command = launch_command(f"{COMMANDS}.{script}", words, config)
    layout = config.parallelism
    config.batch_sizes(data_parallel_size(world_size(layout), layout.pipe_parallel_size, layout.model_parallel_size))
    return command


def become(command: list[str]) -> NoReturn:
    if not visible_gpus():
        os.environ["DS_ACCELERATOR"] = "cpu"  # else DeepSpeed says on standard output that it found no GPU
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    sys.stdout.flush()
    os.execv(command[0], command)


def command_here(script: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", f"{COMMANDS}.{script}", *arguments]


def script_name(word: str) -> str:
    """The module of `neox_code/commands` that a word means: `train`, `train.py` and `./train.py` are one.

    Raises ConfigError for a script that is not there.
    """
    stem = Path(word).name.removesuffix(".py")
    script = ALIASES.get(stem, stem)
    if script not in scripts():
        raise ConfigError(f"{word} is not a script of this program. Choose among {', '.join(scripts())}.")
    return script


def scripts() -> list[str]:
    """The names of the scripts, found without importing any."""
    return sorted(path.stem for path in (ROOT / "neox_code" / "commands").glob("[!_]*.py"))


def usage() -> str:
    """How to call this file."""
    return "\n".join([
        "usage: ./deepy.py SCRIPT CONFIG [CONFIG ...] [OPTIONS]",
        "",
        f"SCRIPT is one of {', '.join(scripts())} (with or without .py; eval is evaluate).",
        "CONFIG is a YAML or JSON file; without a suffix it is a .yml file. Several files are merged.",
        "./deepy.py SCRIPT -h lists the script's options.",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
