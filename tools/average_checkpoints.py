"""Average checkpoints, or add the difference of two models to a third.

    python tools/average_checkpoints.py averaged checkpoints --iterations 8000,9000,10000        the mean of a run's checkpoints
    python tools/average_checkpoints.py averaged runs/a runs/b runs/c --ema 0.9                  in the order from old to new
    python tools/average_checkpoints.py combined --add continued instruct base --scale 0.7       continued + 0.7 * (instruct - base)

The models must have the same shapes and the same vocabulary; their formats and layouts may differ. The result has the format,
configuration, vocabulary and iteration of the first model. It is computed in fp32 and rounded once to the first model's type. One
parameter of each model is in memory at a time.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import Parser, parse_name_list, parse_number, parse_path
from neox_code.conversion.combine import add_difference, combine, mean, moving_average
from neox_code.conversion.convert import choose_format, write_model
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import open_source
from neox_code.errors import ConfigError, run_command
from neox_code.logs import get_logger

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    """Write the combined model; return the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("output", type=parse_path, metavar="OUTPUT", help="the folder to write; it must be new")
    parser.add_argument("sources", type=parse_path, nargs="*", metavar="SOURCE", help="the folders of the models")
    parser.add_argument("--iterations", type=parse_iterations, metavar="N,N,...", help="checkpoints of the only SOURCE, old to new")
    parser.add_argument(
        "--ema", type=parse_decay, metavar="BETA", help="exponential moving average: each next model has the weight 1 - BETA"
    )
    parser.add_argument("--add", type=parse_path, nargs=3, metavar=("BASE", "A", "B"), help="write BASE + S * (A - B)")
    parser.add_argument("--scale", type=float, metavar="S", help="with --add: the factor of the difference (default: 1)")
    words = parser.parse_intermixed_args(list(argv))
    if words.add and (words.sources or words.iterations or words.ema is not None):
        raise ConfigError("--add has its own models, and only --scale goes with it. Leave out SOURCE, --iterations and --ema.")
    if words.scale is not None and not words.add:
        raise ConfigError("--scale is used only with --add. Leave it out.")
    if words.iterations and len(words.sources) != 1:
        raise ConfigError(f"--iterations chooses checkpoints of one SOURCE, but there are {len(words.sources)}. Give one SOURCE.")
    models: list[tuple[Path, int | None]] = [(path, None) for path in words.add or words.sources]
    if words.iterations:
        models = [(words.sources[0], iteration) for iteration in words.iterations]
    if len(models) < 2:
        raise ConfigError(f"{len(models)} models are given. Give two or more, or one with --iterations N,N,...")
    combination = mean if words.ema is None else partial(moving_average, words.ema)
    if words.add:
        combination = partial(add_difference, 1.0 if words.scale is None else words.scale)
    combined = combine([open_source(*model) for model in models], combination)
    write_model(combined, words.output, choose_format(combined), ConversionOptions())
    log.info("%s is computed from %d models", words.output, len(models))
    return 0


def parse_decay(value: str) -> float:
    return parse_number(value, float, lambda number: 0 < number < 1, "a number between 0 and 1")


def parse_iterations(value: str) -> list[int]:
    """
    >>> iterations("100,200")
    [100, 200]
    """
    return [
        parse_number(number, int, lambda number: number >= 0, "a whole number of at least 0") for number in parse_name_list(value)
    ]


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
