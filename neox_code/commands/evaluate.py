"""Evaluate a model on held-out files of each language.

    ./deepy.py evaluate CONFIG... [--iteration N] [--json]        with `heldout_path` set to a corpus folder

Print bits per byte beside those of gzip and xz, and perplexity, and write them to eval_results_N.json in `load`.
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line, report_figures
from neox_code.errors import run_command
from neox_code.evaluation.heldout import evaluate_heldout
from neox_code.evaluation.heldout_result import make_result_path, save_heldout
from neox_code.evaluation.heldout_table import make_heldout_table
from neox_code.logs import get_logger
from neox_code.planning.missing import require_files

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    """Evaluate the model on held-out files and print the table; return 0."""
    command_line = parse_command_line(argv, __doc__, "evaluate")
    with report_figures(command_line.as_json) as figures:
        config = load_config(command_line)
        require_files(config, "evaluate")
        result = evaluate_heldout(config)
        Console().print(make_heldout_table(result))
        save_heldout(result, make_result_path(result))
        log.info("figures written to %s", make_result_path(result))
        figures |= result.to_json()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
