#!/usr/bin/env python3
"""The launcher: runs a script of neox_code/commands with configuration files.

    ./deepy.py train.py -d configs small.yml local_setup.yml
    ./deepy.py generate.py configs/small.yml configs/local_setup.yml configs/text_generation.yml -i prompt.txt
    ./deepy.py train.py configs/small.yml configs/local_setup.yml --set train_iters=10 --dry-run

`train` runs on every rank that the configuration asks for, each of which merges the same files for itself; every other script
runs in this process and reads its own options. `--dry-run` judges the configuration alone: its size, layout and memory, what a run
needs and this machine lacks, and the keys that differ from their defaults; `--gpu-memory-gib N` asks whether its layout fits.
"""

import ast
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from neox_code.config.command_line import DRY_RUN_COMMANDS, KEYS_ARE_LISTED, CommandLine, parse_command_line
from neox_code.config.derive import data_parallel_size
from neox_code.config.neox import TRAINING_NEEDS, NeoXConfig
from neox_code.config.spelling import nearest
from neox_code.errors import ConfigError, run_command
from neox_code.launch.command import QUIET, launch_command, launch_environment, remarks
from neox_code.launch.copies import require_one_copy
from neox_code.launch.former_scripts import ALIASES, heir
from neox_code.launch.hosts import visible_gpus, with_default_hostfile, world_size
from neox_code.launch.supervise import run
from neox_code.planning.dry_run import described
from neox_code.planning.missing import stopping
from neox_code.planning.planned_world import planned_world

ROOT = Path(__file__).resolve().parent
COMMANDS = "neox_code.commands"
LAUNCHED = ("train",)
"""Scripts that run on ranks."""


def main(argv: Sequence[str]) -> int:
    """Returns an exit status, or becomes the script."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    script, arguments = script_name(argv[0]), list(argv[1:])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if script in LAUNCHED or (script in DRY_RUN_COMMANDS and "--dry-run" in arguments):
        return run_configured(script, parse_command_line(arguments, description(script), script))
    return become(command_here(script, arguments))


def run_configured(script: str, command_line: CommandLine) -> int:
    config = NeoXConfig.load(command_line.config_paths, command_line.overrides)
    if script in LAUNCHED:
        config = with_default_hostfile(config)
    words = CommandLine(command_line.config_paths, command_line.overrides).arguments
    if command_line.dry_run:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # paths may have letters that the terminal's encoding lacks
        print(dry_run(script, words, config, command_line))
        return 0
    command = command_on_ranks(script, words, config)
    for line in remarks(config):
        print(line, file=sys.stderr)
    return run(command, launch_environment(config), config.parallelism.stop_timeout_seconds)


def dry_run(script: str, words: Sequence[str], config: NeoXConfig, options: CommandLine) -> str:
    """What the configuration comes to on the ranks that it asks for; raises ConfigError where it contradicts itself."""
    gpu_memory_gib = options.gpu_memory_gib
    if script not in LAUNCHED:
        if gpu_memory_gib is not None:
            raise ConfigError(f"--gpu-memory-gib judges a layout for training, and {script} has none. Use it with train.")
        return described(config, script, command_here(script, words), None, all_keys=options.all_keys)
    config.require_training(data=False)
    world = planned_world(config)
    command = launch_command(f"{COMMANDS}.{script}", words, config, world.hosts)
    return described(config, script, command, world, gpu_memory_gib, options.all_keys)


def command_on_ranks(script: str, words: Sequence[str], config: NeoXConfig) -> list[str]:
    """The command that starts the ranks; an error here is better than the same one from each of them."""
    require_one_copy(os.environ, words)
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

    Raises ConfigError for a script that is not there, with what took the place of one of GPT-NeoX's.
    """
    stem = Path(word).name.removesuffix(".py")
    script = ALIASES.get(stem, stem)
    if script not in scripts():
        similar = nearest(stem, scripts())
        instead = heir(word, ROOT / "tools") or (f"Did you mean {' or '.join(similar)}?" if similar else None)
        remedy = f"{instead.removesuffix('?')}{'?' if instead.endswith('?') else '.'} " if instead else ""
        raise ConfigError(f"{word} is not a script of this program. {remedy}Choose among {', '.join(scripts())}.")
    return script


def description(script: str) -> str:
    """The docstring of a script, which is not imported for it."""
    path = ROOT / "neox_code" / "commands" / f"{script}.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""


def scripts() -> list[str]:
    """The names of the scripts, found without importing any."""
    return sorted(path.stem for path in (ROOT / "neox_code" / "commands").glob("[!_]*.py"))


def usage() -> str:
    """How to call this file, with a line on each script."""
    names = scripts()
    width = max(map(len, names))
    return "\n".join([
        "usage: ./deepy.py SCRIPT CONFIG [CONFIG ...] [OPTIONS]",
        "",
        "SCRIPT is one of these, with or without .py:",
        *(f"  {name.ljust(width)}  {description(name).partition(chr(10))[0]}".rstrip() for name in names),
        "",
        "CONFIG is a YAML or JSON file; without a suffix it is a .yml file. Several files are merged.",
        f"./deepy.py SCRIPT -h lists the script's options; {KEYS_ARE_LISTED}",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
