"""The command lines of all commands and tools: one parser class, the options that several of them share, and `--json`.

    command_line = parse_command_line(["-d", "configs", "small", "local_setup", "--set", "train_iters=10"], __doc__, "train")
    config = command_line.load()
    [..., *command_line.arguments]           # the same words for the ranks

A command with configuration files calls `build_config_parser`, adds its own options to the parser, and passes the parsed arguments
to `read_shared_options`. A command or tool without configuration files builds a `Parser`.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from neox_code.config.assembly import shorten
from neox_code.config.legacy_keys import AUTOTUNING
from neox_code.config.neox import NeoXConfig
from neox_code.config.spelling import find_nearest
from neox_code.config.yaml_merge import Setting, find_config_path, parse_value
from neox_code.errors import ConfigError
from neox_code.installation import LAUNCHER


class Parser(argparse.ArgumentParser):
    """An argparse parser whose help is the command's docstring. An error prints one sentence; the exit status is 2.

    Parsers without `prog`, those of the tools, accept abbreviated options as GPT-NeoX's tools do: `--vocab` for `--vocab-file`.
    """

    def __init__(self, description: str | None, prog: str | None = None, epilog: str | None = None):
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=raw, allow_abbrev=prog is None)

    def parse_known_args(self, args: Any = None, *rest: Any, **named: Any) -> Any:
        self.words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, *rest, **named)

    def error(self, message: str) -> NoReturn:
        known = [name for action in self._actions if action.help != argparse.SUPPRESS for name in action.option_strings]
        given = {word.partition("=")[0] for word in self.words if word.startswith("--")}
        similar = [f" Did you mean {name}?" for word in sorted(given.difference(known)) for name in find_nearest(word, known)[:1]]
        raise ConfigError(f"{message[:1].lower()}{message[1:]}.{''.join(similar)} {self.prog} -h lists the options.")


# ---- types of option values


def parse_positive_number(value: str) -> float:
    """Convert an option's value to a finite number above 0.

    >>> parse_positive_number("2.5")
    2.5
    """
    return parse_number(value, float, lambda number: 0 < number < math.inf, "a number above 0")


def parse_positive_integer(value: str) -> int:
    return parse_number(value, int, lambda number: number > 0, "a whole number above 0")


def parse_non_negative_integer(value: str) -> int:
    return parse_number(value, int, lambda number: number >= 0, "a whole number of at least 0")


def parse_non_negative_number(value: str) -> float:
    return parse_number(value, float, lambda number: 0 <= number < math.inf, "a number of at least 0")


def parse_number(value: str, kind: Callable[[str], Any], is_allowed: Callable[[Any], bool], expected: str) -> Any:
    try:
        number = kind(value)
    except ValueError:
        number = None
    if number is None or not is_allowed(number):
        raise argparse.ArgumentTypeError(f"{value} is not {expected}")
    return number


def parse_name_list(value: str) -> tuple[str, ...]:
    """Split an option's value at its commas.

    >>> parse_name_list("C, Rust")
    ('C', 'Rust')
    """
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"{value!r} contains no name")
    return names


def parse_path(value: str) -> Path:
    """Convert an option's value to a path and expand a leading ~. The shell does not expand ~ after `--output=`."""
    return Path(value).expanduser()


# ---- figures as JSON


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the figures as one JSON document on standard output, all else on standard error"
    )


@contextmanager
def report_figures(as_json: bool) -> Iterator[dict[str, Any]]:
    """Yield a dictionary for a command's figures; with `as_json`, print it at the end as one JSON document.

    Within the block, standard output of this process and its children is redirected to standard error.
    """
    figures: dict[str, Any] = {}
    if not as_json:
        yield figures
        return
    sys.stdout.flush()
    standard_output = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield figures
    finally:
        os.dup2(standard_output, 1)
        os.close(standard_output)
    print(json.dumps(replace_non_json_values(figures), indent=2))


def replace_non_json_values(value: Any) -> Any:
    """Return the value as JSON can hold it: null replaces NaN and infinity, and text replaces paths and dates.

    >>> replace_non_json_values({"loss": [1.5, float("nan")], Path("a"): Path("b")})
    {'loss': [1.5, None], 'a': 'b'}
    """
    if isinstance(value, Mapping):
        return {str(key): replace_non_json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_non_json_values(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


# ---- commands with configuration files

LAYOUT_COMMANDS = ("train", "finetune")
"""Commands for which the launcher starts ranks."""

OPTION_KEYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "hostfile": (LAYOUT_COMMANDS, {"metavar": "FILE", "help": "sets hostfile: a line HOST slots=N per machine"}),
    "sample_input_file": (
        ("generate",),
        {"metavar": "FILE", "help": "sets sample_input_file, and text_gen_type to input-file; - is standard input"},
    ),
    "sample_output_file": (
        ("generate",),
        {"metavar": "FILE", "help": "sets sample_output_file: JSON Lines (default: standard output)"},
    ),
    "iteration": (
        (*LAYOUT_COMMANDS, "generate", "serve", "lsp", "evaluate"),
        {"metavar": "N", "type": int, "help": "sets iteration: load global_stepN in place of the latest"},
    ),
    "load": (("finetune",), {"metavar": "DIR", "help": "sets load: the folder of the base model"}),
    "wandb_group": (LAYOUT_COMMANDS, {"metavar": "NAME", "help": "sets wandb_group"}),
    "wandb_run_name": (LAYOUT_COMMANDS, {"metavar": "NAME", "help": "sets wandb_run_name"}),
    "wandb_team": (LAYOUT_COMMANDS, {"metavar": "NAME", "help": "sets wandb_team"}),
    "eval_tasks": (("evaluate",), {"metavar": "NAME,...", "type": parse_name_list, "help": "sets eval_tasks"}),
    "eval_task_limit": (("evaluate",), {"metavar": "N", "type": int, "help": "sets eval_task_limit: problems of each task"}),
    "eval_results_prefix": (("evaluate",), {"metavar": "DIR", "help": "sets eval_results_prefix: the folder of the results"}),
    "eval_corpus": (("evaluate",), {"metavar": "DIR", "help": "sets eval_corpus: the corpus that the model was trained on"}),
    "eval_data": (("evaluate",), {"metavar": "DIR", "help": "sets eval_data: the folder of the benchmarks"}),
    "eval_problem_file": (("evaluate",), {"metavar": "FILE", "help": "sets eval_problem_file, for one task"}),
    "eval_languages": (
        ("evaluate",),
        {
            "metavar": "FILE,...",
            "type": parse_name_list,
            "help": "sets eval_languages: YAML files of languages, as configs/languages/",
        },
    ),
    "eval_samples": (("evaluate",), {"metavar": "FILE", "help": "sets eval_samples: checks its samples, without a model"}),
    "allow_weak_sandbox": (
        ("evaluate",),
        {"action": "store_true", "default": None, "help": "sets allow_weak_sandbox: run programs without a part of the sandbox"},
    ),
}
"""Options that set a configuration key. Key -> (commands with the option, arguments for argparse)."""

OTHER_NAMES = {
    "load": "--base",
    "hostfile": "-H",
    "sample_input_file": "-i",
    "sample_output_file": "-o",
    "eval_tasks": "--tasks",
    "eval_task_limit": "--limit",
    "eval_results_prefix": "--output",
    "eval_corpus": "--corpus",
    "eval_data": "--data",
    "eval_problem_file": "--problem-file",
    "eval_languages": "--language",
    "eval_samples": "--samples",
    "allow_weak_sandbox": "--allow-weak-sandbox",
}
"""Key -> the other name of its option, which messages use."""

KEYS_ARE_LISTED = "configs/README.md lists every key of a configuration file and of --set."

DRY_RUN_COMMANDS = (*LAYOUT_COMMANDS, "generate", "evaluate")
JSON_COMMANDS = ("evaluate", "benchmark")
"""Commands that report figures. The other commands accept `--json` only with `--dry-run`."""

REFUSED_OPTIONS = {"autotuning": AUTOTUNING}
"""GPT-NeoX's options for features that are not built -> reason of the refusal."""


@dataclass(frozen=True)
class CommandLine:
    """The configuration files and settings that a command was started with."""

    config_paths: tuple[Path, ...]
    overrides: Mapping[str, Any]
    """Keys that the command line sets, by `--set` or by another option."""

    dry_run: bool = False
    gpu_memory_gib: float | None = None
    """Memory of one GPU in GiB; a dry run reports whether the layout fits into it."""

    all_keys: bool = False
    """True: a dry run lists the keys with their defaults too."""

    as_json: bool = False
    """True: the figures are printed as JSON."""

    max_restarts: int = 0
    """Number of times that a failed training is started again."""

    min_nodes: int | None = None
    """Number of hosts with which a restart is allowed; None: all."""

    show: int | None = None
    """Number of samples that `finetune` prints instead of training."""

    options: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Key that was set by its own option instead of --set -> the name of this option, for messages."""

    def load(self, beneath: Sequence[Setting] = ()) -> NeoXConfig:
        """Return the merged configuration of files and options.

        `beneath` has settings of lower priority, which apply to keys that neither a file nor an option sets. Paths of folders are
        ignored. Raise ConfigError with all problems.
        """
        files = [path for path in self.config_paths if not path.is_dir()]
        return NeoXConfig.load(files, self.overrides, self.options, beneath)

    @property
    def arguments(self) -> list[str]:
        """Arguments that parse to the same command line."""
        settings = [f"--set={key}={format_flow_yaml(value)}" for key, value in self.overrides.items()]
        dry_run = ["--dry-run"] if self.dry_run else []
        memory = [] if self.gpu_memory_gib is None else [f"--gpu-memory-gib={self.gpu_memory_gib}"]
        return [
            *map(str, self.config_paths),
            *settings,
            *dry_run,
            *memory,
            *(["--all"] if self.all_keys else []),
            *(["--json"] if self.as_json else []),
        ]


def format_flow_yaml(value: Any) -> str:
    """Return the value as YAML on one line.

    >>> format_flow_yaml([1, "a: b", None, 1e-4]), format_flow_yaml("yes")
    ("[1, 'a: b', null, 0.0001]", "'yes'")
    """
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def parse_command_line(argv: Sequence[str], description: str | None, command: str | None = None) -> CommandLine:
    """Parse the arguments after a command's name. Raise ConfigError for arguments that the command does not have."""
    return read_shared_options(build_config_parser(description, command).parse_intermixed_args(list(argv)))


def build_config_parser(description: str | None, command: str | None = None) -> Parser:
    """Build the parser of a command with configuration files. If `command` is None, the parser has the options of all commands.

    The parser also accepts the options of other commands, without help, so that `read_shared_options` can refuse them by name.
    """
    parser = Parser(description, f"{LAUNCHER} {command}" if command else Path(sys.argv[0]).name, KEYS_ARE_LISTED)
    parser.set_defaults(command=command)

    def add(*names: str, commands: Sequence[str] = (), **words: Any) -> None:
        if commands and command not in (None, *commands):
            words["help"] = argparse.SUPPRESS
        parser.add_argument(*names, **words)

    add(
        "config",
        nargs="*" if command == "evaluate" else "+",
        help="YAML or JSON files that are merged (.yml is added to a name without a suffix), or a folder with a model",
    )
    add("-d", "--conf_dir", metavar="DIR", help="folder of the configuration files")
    for key, (commands, words) in OPTION_KEYS.items():
        add(*list_flags(key), dest=key, commands=commands, **words)
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any key; replaces the value of files and other options; VALUE is YAML (repeatable)",
    )
    add(
        "--dry-run",
        action="store_true",
        commands=DRY_RUN_COMMANDS,
        help="report size, layout, memory, what is missing and the changed keys; run nothing",
    )
    add("--all", action="store_true", commands=DRY_RUN_COMMANDS, help="with --dry-run: list the keys that have their defaults too")
    add(
        "--gpu-memory-gib",
        type=float,
        metavar="N",
        commands=LAYOUT_COMMANDS,
        help="with --dry-run: compare the layout with a GPU of N GiB, and propose another if it does not fit",
    )
    add(
        "--max-restarts",
        type=parse_non_negative_integer,
        default=0,
        metavar="N",
        commands=LAYOUT_COMMANDS,
        help="after a failure (a crashed, killed or hanging rank, a lost host), start again from the newest checkpoint in save",
    )
    add(
        "--min-nodes",
        type=parse_positive_integer,
        metavar="N",
        commands=LAYOUT_COMMANDS,
        help="with --max-restarts: leave out hosts that do not answer, down to N hosts (default: all must answer)",
    )
    add(
        "--show",
        type=parse_positive_integer,
        metavar="N",
        commands=("finetune",),
        help="print N samples as the model reads them, with the tokens outside the loss in grey, and end",
    )
    where = "" if command in JSON_COMMANDS else "with --dry-run: "
    add(
        "--json",
        action="store_true",
        help=f"{where}print the figures as one JSON document on standard output, all else on standard error",
    )
    add("--eval_tasks", nargs="+", dest="gpt_neox_tasks", metavar="NAME", help=argparse.SUPPRESS)
    for option in REFUSED_OPTIONS:
        add(f"--{option}", nargs="+", help=argparse.SUPPRESS)
    add("--local_rank", help=argparse.SUPPRESS)
    return parser


def list_flags(key: str) -> list[str]:
    """Return the option names for a key. Messages use the first name."""
    own = [] if key == "eval_tasks" else [f"--{key}"]  # GPT-NeoX's has several words
    return [*([OTHER_NAMES[key]] if key in OTHER_NAMES else []), *own]


def read_shared_options(parsed: argparse.Namespace) -> CommandLine:
    """Return the shared options of parsed arguments. Raise ConfigError for options of other commands and values out of range."""
    if parsed.gpt_neox_tasks is not None:
        parsed.eval_tasks = parse_name_list(",".join(parsed.gpt_neox_tasks))
    refused = [
        f"--{option} cannot be used: {why}." for option, why in REFUSED_OPTIONS.items() if getattr(parsed, option) is not None
    ]
    refused += [
        f"{'/'.join(list_flags(key))} is an option of {' and '.join(commands)} and has no effect in {parsed.command}. Leave it out."
        for key, (commands, _) in OPTION_KEYS.items()
        if parsed.command not in (None, *commands) and getattr(parsed, key) is not None
    ]
    if refused:
        raise ConfigError("\n".join(refused))
    memory = parsed.gpu_memory_gib
    if memory is not None and not 0 < memory < math.inf:
        raise ConfigError(f"--gpu-memory-gib {memory:g} must be a number above 0.")
    if memory is not None and not parsed.dry_run:
        raise ConfigError("--gpu-memory-gib is used only in a dry run. Add --dry-run, or leave it out.")
    if parsed.all and not parsed.dry_run:
        raise ConfigError("--all lists keys in a dry run. Add --dry-run, or leave it out.")
    if parsed.show and parsed.command not in (None, "finetune"):
        raise ConfigError(f"--show is an option of finetune and has no effect in {parsed.command}. Leave it out.")
    if (parsed.max_restarts or parsed.min_nodes) and parsed.command not in (None, *LAYOUT_COMMANDS):
        raise ConfigError(
            f"--max-restarts and --min-nodes are options of {' and '.join(LAYOUT_COMMANDS)} and have no effect in {parsed.command}."
        )
    if parsed.min_nodes and not parsed.max_restarts:
        raise ConfigError("--min-nodes is used only with --max-restarts. Add --max-restarts N, or leave it out.")
    if parsed.json and not parsed.dry_run and parsed.command not in (None, *JSON_COMMANDS):
        raise ConfigError(f"{parsed.command} supports --json only with --dry-run. Add --dry-run.")
    overrides = {key: getattr(parsed, key) for key in OPTION_KEYS if getattr(parsed, key) is not None}
    if parsed.sample_input_file is not None:
        overrides["text_gen_type"] = "input-file"
    options = {key: list_flags(key)[0] for key in overrides if key in OPTION_KEYS}
    assigned = dict(map(parse_assignment, parsed.set))
    overrides.update(assigned)
    paths = tuple(find_config_path(name, parsed.conf_dir) for name in parsed.config)
    return CommandLine(
        paths,
        overrides,
        parsed.dry_run,
        memory,
        parsed.all,
        parsed.json,
        parsed.max_restarts,
        parsed.min_nodes,
        parsed.show,
        {key: options[key] for key in options if key not in assigned},
    )


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `KEY=VALUE` and read the value as YAML.

    >>> parse_assignment("optimizer.params.lr=6e-4"), parse_assignment("save=")
    (('optimizer.params.lr', 6e-4), ('save', None))
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConfigError(f"--set {shorten(text)} is not KEY=VALUE. Write for example --set train_iters=1000.")
    try:
        return key.strip().replace("-", "_"), parse_value(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {shorten(text)} has no valid YAML value. Put quotes around it.") from None
