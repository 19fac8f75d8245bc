"""Judge a model by held-out files of each language.

    ./deepy.py evaluate CONFIG... [--iteration N]        with `heldout_path` set to a corpus folder

Prints bits per byte beside gzip's and xz's, and perplexity, and writes them to eval_results_N.json in `load`.
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from neox_code.config.command_line import parse_command_line
from neox_code.errors import run_command
from neox_code.evaluation.heldout import evaluate_heldout
from neox_code.evaluation.heldout_result import heldout_file, save_heldout
from neox_code.evaluation.heldout_table import heldout_table
from neox_code.logs import get_logger
from neox_code.planning.missing import require_files

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    config = parse_command_line(argv, __doc__, "evaluate").load()
    require_files(config, "evaluate")
    result = evaluate_heldout(config)
    Console().print(heldout_table(result))
    save_heldout(result, heldout_file(result))
    log.info("figures written to %s", heldout_file(result))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
