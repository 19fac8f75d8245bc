"""The launcher, started as ./deepy.py, neox-code or python -m neox_code.commands: run a command with configuration files.

    neox-code train -d configs small.yml local_setup.yml
    neox-code generate configs/small.yml configs/local_setup.yml configs/text_generation.yml -i prompt.txt
    neox-code train configs/small.yml configs/local_setup.yml --set train_iters=10 --dry-run

`train` and `finetune` start the ranks of the configuration; each rank reads the same files again. Every other command replaces this
process and parses its own options. `--dry-run` prints a report on the configuration and runs nothing.
"""

import ast
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from neox_code.checkpoint.model_folder import merge_config
from neox_code.config.command_line import (
    DRY_RUN_COMMANDS,
    KEYS_ARE_LISTED,
    LAYOUT_COMMANDS,
    CommandLine,
    parse_command_line,
    report_figures,
)
from neox_code.config.derive import compute_data_parallel_size
from neox_code.config.neox import NEEDS, NeoXConfig
from neox_code.config.spelling import find_nearest
from neox_code.errors import ConfigError, run_command
from neox_code.installation import LAUNCHER, PACKAGE
from neox_code.launch.command import QUIET, describe_placement, make_launch_command, make_launch_environment
from neox_code.launch.copies import require_one_copy
from neox_code.launch.former_scripts import ALIASES, find_replacement
from neox_code.launch.hosts import count_ranks, find_visible_gpus, resolve_hostfile
from neox_code.launch.restarts import run_with_restarts
from neox_code.launch.supervise import Ending, run_and_report
from neox_code.planning.dry_run import make_dry_run
from neox_code.planning.missing import list_blocking_problems
from neox_code.planning.planned_world import plan_world

COMMANDS = Path(__file__).parent
MODULES = "neox_code.commands"


def start() -> int:
    """Run the command in sys.argv and return its exit status. This is the entry point of the console command."""
    return run_command(main, sys.argv[1:])


def main(argv: Sequence[str]) -> int:
    """Run the command in `argv`: return its exit status, or replace this process by the command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(format_usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"neox-code {version('neox-code')}")
        return 0
    command, arguments = find_command(argv[0]), list(argv[1:])
    root = COMMANDS.parents[1]
    if (root / "deepy.py").is_file():  # a checkout, which need not be installed
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    if command == "finetune" and "--demo" in arguments:  # a module of its own, whose imports ranks do not need
        return replace_process([sys.executable, "-m", "neox_code.quickstart.demo", *arguments])
    if (command in LAYOUT_COMMANDS and "--show" not in arguments) or (command in DRY_RUN_COMMANDS and "--dry-run" in arguments):
        return run_with_config(command, parse_command_line(arguments, read_description(command), command))
    return replace_process(make_local_command(command, arguments))


def run_with_config(command: str, command_line: CommandLine) -> int:
    """Print the dry run or start the ranks, and return the exit status."""
    config = merge_config(command_line)
    if command in LAYOUT_COMMANDS:
        config = resolve_hostfile(config)
    words = CommandLine(command_line.config_paths, command_line.overrides).arguments
    if command_line.dry_run:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # paths may have letters that the terminal's encoding lacks
        with report_figures(command_line.as_json) as figures:
            print_dry_run(command, words, config, command_line, figures)
        return 0

    def start_ranks(chosen: NeoXConfig) -> Ending:
        rank_command = make_rank_command(command, words, chosen)
        for line in describe_placement(chosen):
            print(line, file=sys.stderr)
        return run_and_report(rank_command, make_launch_environment(chosen), chosen.parallelism.stop_timeout_seconds)

    return run_with_restarts(start_ranks, config, command_line.max_restarts, command_line.min_nodes)


def print_dry_run(command: str, words: Sequence[str], config: NeoXConfig, options: CommandLine, figures: dict[str, Any]) -> None:
    """Print the report on a configuration and its ranks. Raise ConfigError if the configuration contradicts itself."""
    gpu_memory_gib = options.gpu_memory_gib
    if command not in LAYOUT_COMMANDS:
        if gpu_memory_gib is not None:
            raise ConfigError(f"--gpu-memory-gib checks a training layout, and {command} does not train. Use it with train.")
        world, words = None, make_local_command(command, words)
    else:
        if missing := config.find_missing(NEEDS[command]):
            raise ConfigError("\n".join(missing))
        world = plan_world(config)
        words = make_launch_command(f"{MODULES}.{command}", words, config, world.hosts)
    text, report = make_dry_run(config, command, words, world, gpu_memory_gib, options.all_keys)
    print(text)
    if options.as_json:
        figures |= report


def make_rank_command(command: str, words: Sequence[str], config: NeoXConfig) -> list[str]:
    """Return the command that starts the ranks. Errors that every rank would find are raised here, once."""
    require_one_copy(os.environ, words)
    missing = [
        *config.find_missing(NEEDS[command]),
        *(f"missing: {sentence}" for sentence in list_blocking_problems(config, command)),
    ]
    if missing:
        raise ConfigError("\n".join(missing))
    rank_command = make_launch_command(f"{MODULES}.{command}", words, config)
    layout = config.parallelism
    config.batch_sizes(compute_data_parallel_size(count_ranks(layout), layout.pipe_parallel_size, layout.model_parallel_size))
    return rank_command


def replace_process(command: list[str]) -> NoReturn:
    """Execute the command in place of this process."""
    if not find_visible_gpus():
        os.environ["DS_ACCELERATOR"] = "cpu"  # otherwise DeepSpeed prints on standard output that it found no GPU
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    sys.stdout.flush()
    os.execv(command[0], command)


def make_local_command(command: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", f"{MODULES}.{command}", *arguments]


def find_command(word: str) -> str:
    """Return the command for a word: `train` for `train`, `train.py` and `./train.py`.

    Raise ConfigError for any other word. For a script of GPT-NeoX, the message names the command that replaces it.
    """
    stem = Path(word).name.removesuffix(".py")
    command = ALIASES.get(stem, stem)
    if command not in list_commands():
        similar = find_nearest(stem, list_commands())
        instead = find_replacement(word, PACKAGE.parent / "tools") or (f"Did you mean {' or '.join(similar)}?" if similar else None)
        remedy = f"{instead.removesuffix('?')}{'?' if instead.endswith('?') else '.'} " if instead else ""
        raise ConfigError(
            f"{word or repr(word)} is not a command of this program. {remedy}Choose among {', '.join(list_commands())}."
        )
    return command


def read_description(command: str) -> str:
    """Return a command's docstring without importing the command."""
    path = COMMANDS / f"{command}.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""


def list_commands() -> list[str]:
    """Return the names of the commands without importing a command."""
    return sorted(path.stem for path in COMMANDS.glob("[!_]*.py"))


def format_usage() -> str:
    """Return the launcher's help, with one line per command."""
    names = list_commands()
    width = max(map(len, names))
    return "\n".join([
        f"usage: {LAUNCHER} COMMAND CONFIG [CONFIG ...] [OPTIONS]",
        "",
        "COMMAND is one of these, with or without .py:",
        *(f"  {name.ljust(width)}  {read_description(name).partition(chr(10))[0]}".rstrip() for name in names),
        "",
        "CONFIG is a YAML or JSON file; without a suffix it is a .yml file. Several files are merged.",
        "In a folder without such a file, small.yml and configs/small.yml mean the project's own file; so for all of configs/.",
        f"{LAUNCHER} COMMAND -h lists the options of a command; {KEYS_ARE_LISTED}",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(start())
