"""The command line of every command that takes configuration files.

    command_line = parse_command_line(["-d", "configs", "small", "local_setup", "--set", "train_iters=10"], __doc__, "train")
    config = command_line.load()
    [..., *command_line.arguments]           # the same words for the ranks

A command with options of its own builds `config_parser`, adds them, and turns the parsed words over to `from_parsed`.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from neox_code.config.assembly import shortened
from neox_code.config.legacy_keys import AUTOTUNING, HARNESS
from neox_code.config.neox import NeoXConfig
from neox_code.config.yaml_merge import config_path, parse_value
from neox_code.errors import ConfigError
from neox_code.logs import get_logger

log = get_logger(__name__)

OPTION_KEYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "hostfile": (("train",), {"metavar": "FILE", "help": "sets hostfile: a line HOST slots=N per machine"}),
    "sample_input_file": (
        ("generate",),
        {"metavar": "FILE", "help": "sets sample_input_file, and text_gen_type to input-file; - is standard input"},
    ),
    "sample_output_file": (
        ("generate",),
        {"metavar": "FILE", "help": "sets sample_output_file: JSON Lines (default: standard output)"},
    ),
    "iteration": (
        ("train", "generate", "evaluate"),
        {"metavar": "N", "type": int, "help": "sets iteration: load global_stepN in place of the latest"},
    ),
    "wandb_group": (("train",), {"metavar": "NAME", "help": "sets wandb_group"}),
    "wandb_run_name": (("train",), {"metavar": "NAME", "help": "sets wandb_run_name"}),
    "wandb_team": (("train",), {"metavar": "NAME", "help": "sets wandb_team"}),
}
"""Options that are keys of the configuration: key -> the commands that have the option, and argparse's words for it."""

SHORT_OPTIONS = {"hostfile": "-H", "sample_input_file": "-i", "sample_output_file": "-o"}

KEYS_ARE_LISTED = "configs/README.md lists every key of a configuration file and of --set."

DRY_RUN_COMMANDS = ("train", "generate", "evaluate")

REFUSED_OPTIONS = {"autotuning": AUTOTUNING, "eval_results_prefix": HARNESS, "eval_tasks": HARNESS}
"""GPT-NeoX's options for what is not built, and why they are refused."""


@dataclass(frozen=True)
class CommandLine:
    """Which configuration a command is to run."""

    config_paths: tuple[Path, ...]
    overrides: Mapping[str, Any]
    """Keys that the command line sets, by `--set` or by an option of their own."""

    dry_run: bool = False
    gpu_memory_gib: float | None = None
    """What a dry run judges the layout by."""

    all_keys: bool = False
    """True: a dry run lists the keys with their defaults too."""

    def load(self) -> NeoXConfig:
        """The merged configuration, for a run; raises ConfigError with all its problems, and for a dry run."""
        if self.dry_run:
            raise ConfigError("--dry-run is the launcher's: ./deepy.py SCRIPT CONFIG... --dry-run. Start the script without it.")
        config = NeoXConfig.load(self.config_paths, self.overrides)
        if keys := [entry.key for entry in config.ignored if entry.asks_for_something]:
            log.info("accepted without effect, for the reasons that --dry-run lists: %s", ", ".join(keys))
        return config

    @property
    def arguments(self) -> list[str]:
        """Words that parse to the same command line."""
        settings = [f"--set={key}={flow_yaml(value)}" for key, value in self.overrides.items()]
        dry_run = ["--dry-run"] if self.dry_run else []
        memory = [] if self.gpu_memory_gib is None else [f"--gpu-memory-gib={self.gpu_memory_gib}"]
        return [*map(str, self.config_paths), *settings, *dry_run, *memory, *(["--all"] if self.all_keys else [])]


def flow_yaml(value: Any) -> str:
    """The value as YAML on one line.

    >>> flow_yaml([1, "a: b", None, 1e-4]), flow_yaml("yes")
    ("[1, 'a: b', null, 0.0001]", "'yes'")
    """
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: a sentence, status 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[:1].lower()}{message[1:]}. {self.prog} -h lists the options.")


def parse_command_line(argv: Sequence[str], description: str | None, command: str | None = None) -> CommandLine:
    """Read the words after a command's name. Raises ConfigError for words that mean nothing to it."""
    return from_parsed(config_parser(description, command).parse_intermixed_args(list(argv)))


def config_parser(description: str | None, command: str | None = None) -> Parser:
    """A parser with the options of a command that takes configuration files; None has the options of all."""
    parser = Parser(
        prog=f"./deepy.py {command}" if command else None,
        description=description,
        epilog=KEYS_ARE_LISTED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command)
    add = parser.add_argument
    add("config", nargs="+", help="YAML or JSON files that together make the configuration; .yml is added where there is no suffix")
    add("-d", "--conf_dir", metavar="DIR", help="folder of the configuration files")
    for key, (commands, words) in OPTION_KEYS.items():
        shown = words if command in (None, *commands) else {**words, "help": argparse.SUPPRESS}
        add(*flags(key), **shown)
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="sets any key, with the last word; VALUE is YAML (repeatable)",
    )
    is_judged = command in (None, *DRY_RUN_COMMANDS)
    hidden = argparse.SUPPRESS
    add(
        "--dry-run",
        action="store_true",
        help="judge the configuration: size, layout, memory, what is missing, changed keys; run nothing" if is_judged else hidden,
    )
    add("--all", action="store_true", help="with --dry-run: list the keys that have their defaults too" if is_judged else hidden)
    add(
        "--gpu-memory-gib",
        type=float,
        metavar="N",
        help="with --dry-run: whether the layout fits a GPU of N GiB, or else one that does"
        if command in (None, "train")
        else hidden,
    )
    for option in REFUSED_OPTIONS:
        add(f"--{option}", nargs="+", help=argparse.SUPPRESS)
    add("--local_rank", help=argparse.SUPPRESS)
    return parser


def flags(key: str) -> list[str]:
    """The option of a key, by its short name first where it has one."""
    return [*([SHORT_OPTIONS[key]] if key in SHORT_OPTIONS else []), f"--{key}"]


def from_parsed(parsed: argparse.Namespace) -> CommandLine:
    """The shared options of parsed words. Raises ConfigError for options of other commands and for values that are none."""
    refused = [
        f"--{option} cannot be used: {why}." for option, why in REFUSED_OPTIONS.items() if getattr(parsed, option) is not None
    ]
    refused += [
        f"{'/'.join(flags(key))} is an option of {' and '.join(commands)}, and has no effect in {parsed.command}. Leave it out."
        for key, (commands, _) in OPTION_KEYS.items()
        if parsed.command not in (None, *commands) and getattr(parsed, key) is not None
    ]
    if refused:
        raise ConfigError("\n".join(refused))
    memory = parsed.gpu_memory_gib
    if memory is not None and not (parsed.dry_run and 0 < memory < math.inf):
        raise ConfigError(f"--gpu-memory-gib {memory:g} must be a number above 0, and goes with --dry-run.")
    if parsed.all and not parsed.dry_run:
        raise ConfigError("--all lists keys in a dry run. Add --dry-run, or leave it out.")
    overrides = {key: getattr(parsed, key) for key in OPTION_KEYS if getattr(parsed, key) is not None}
    if parsed.sample_input_file is not None:
        overrides["text_gen_type"] = "input-file"
    overrides.update(map(parse_assignment, parsed.set))
    paths = tuple(config_path(name, parsed.conf_dir) for name in parsed.config)
    return CommandLine(paths, overrides, parsed.dry_run, memory, parsed.all)


def parse_assignment(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` apart, the value read as YAML.

    >>> parse_assignment("optimizer.params.lr=6e-4"), parse_assignment("save=")
    (('optimizer.params.lr', 0.0006), ('save', None))
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConfigError(f"--set {shortened(text)} is not KEY=VALUE. Write for example --set train_iters=1000.")
    try:
        return key.strip().replace("-", "_"), parse_value(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {shortened(text)} has no valid YAML value. Put quotes around it.") from None
