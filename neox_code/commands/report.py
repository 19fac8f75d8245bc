"""Compare training runs on one page: losses over tokens and hours, throughput, validation, restarts.

./deepy.py report RUN...                             RUN is the folder `save` of a run, or its metrics file
./deepy.py report checkpoints/a checkpoints/b --output comparison.html

The page needs no network and no script. It is made from metrics.jsonl, also of a run that goes on.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from neox_code.config.command_line import Parser, parse_path
from neox_code.errors import run_command
from neox_code.installation import LAUNCHER
from neox_code.logs import format_plural
from neox_code.training.run_report import write_report


def main(argv: Sequence[str]) -> int:
    """Write the page; return 0."""
    parser = Parser(__doc__, f"{LAUNCHER} report")
    parser.add_argument("runs", nargs="+", type=parse_path, metavar="RUN", help="folder of a run, or a metrics file")
    parser.add_argument(
        "--output", type=parse_path, default=Path("runs.html"), metavar="FILE", help="page to write (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    number = write_report(arguments.runs, arguments.output)
    print(f"wrote {arguments.output}: {format_plural(number, 'run')}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
