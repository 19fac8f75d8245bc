"""Evaluate a model: by tasks, or by its bits per byte on held-out files.

    ./deepy.py evaluate CONFIG... [--iteration N] [--json]        bits per byte of the corpus folder `heldout_path`
    ./deepy.py evaluate CONFIG... --tasks humaneval,mbpp --data DIR [--limit N] [--output DIR]
    ./deepy.py evaluate --tasks humaneval --samples FILE.jsonl --data DIR --output DIR        samples of any model
    ./deepy.py evaluate --report DIR... [-o evaluation.html]      a page that compares the results in folders

Without tasks, print bits per byte beside those of gzip and xz, and perplexity, and write them to eval_results_N.json in `load`.
docs/evaluation.md lists the tasks, the files and what the errors mean. Programs of samples run in a sandbox.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import CommandLine, Parser, build_config_parser, parse_path, read_shared_options, report_figures
from neox_code.config.evaluation import EvaluationConfig
from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig
from neox_code.config.yaml_merge import Setting
from neox_code.errors import ConfigError, run_command
from neox_code.evaluation.heldout import evaluate_heldout
from neox_code.evaluation.heldout_result import make_result_path, save_heldout
from neox_code.evaluation.heldout_table import make_heldout_table
from neox_code.evaluation.report import write_report
from neox_code.evaluation.runner import evaluate_tasks
from neox_code.evaluation.score_table import make_score_table
from neox_code.installation import LAUNCHER
from neox_code.logs import format_plural, get_logger
from neox_code.planning.missing import require_files

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    """Evaluate the model and print the table, or write the page of results; return 0."""
    if "--report" in argv:
        return make_report(argv)
    command_line = read_shared_options(build_config_parser(__doc__, "evaluate").parse_intermixed_args(list(argv)))
    with report_figures(command_line.as_json) as figures:
        if not command_line.config_paths and command_line.overrides.get("eval_samples"):
            no_model = [Setting(known.name, 1, "no model") for known in FIELDS.values() if known.required]
            figures |= print_tasks(None, command_line.load(no_model).evaluation)
            return 0
        config = read_config(command_line)
        if config.evaluation.eval_tasks:
            if not config.evaluation.eval_samples:
                require_files(config, "evaluate")
            figures |= print_tasks(config, config.evaluation)
            return 0
        require_files(config, "evaluate")
        result = evaluate_heldout(config)
        Console().print(make_heldout_table(result))
        save_heldout(result, make_result_path(result))
        log.info("figures written to %s", make_result_path(result))
        figures |= result.to_json()
    return 0


def make_report(argv: Sequence[str]) -> int:
    """Write the page that compares the results in the folders of --report; return 0."""
    parser = Parser(__doc__, f"{LAUNCHER} evaluate")
    parser.add_argument("--report", nargs="+", type=parse_path, metavar="DIR", help="folders with results")
    parser.add_argument("-o", "--output", type=parse_path, default=Path("evaluation.html"), metavar="FILE", help="the page")
    parsed = parser.parse_args(list(argv))
    count = write_report(parsed.report, parsed.output)
    log.info("%s compares %s", parsed.output, format_plural(count, "result file"))
    return 0


def read_config(command_line: CommandLine) -> NeoXConfig:
    """Return the configuration. Raise ConfigError if no file, no folder and no `load` is given."""
    if not command_line.config_paths and "load" not in command_line.overrides:
        raise ConfigError(
            "no configuration file and no folder with a model is given. Name one, or check a file of samples by --samples FILE."
        )
    return load_config(command_line)


def print_tasks(config: NeoXConfig | None, section: EvaluationConfig) -> dict[str, Any]:
    """Evaluate the tasks, print their scores, and return their results."""
    if not section.eval_tasks:
        raise ConfigError("--samples needs the task that the samples belong to. Add --tasks NAME.")
    results = list(evaluate_tasks(config, section))
    Console().print(make_score_table(results))
    return {"tasks": results}


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
