"""Build a corpus from the code on this machine, train a model on it, and write a report.

    ./deepy.py quickstart                                           # the Python library and packages of this machine
    ./deepy.py quickstart --source ~/projects --source linux.tar.xz --output checkpoints/mine

Rerun the same command to resume: finished steps are skipped. `--fresh` starts over.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neox_code.config.command_line import Parser, add_json_option, report_figures
from neox_code.config.yaml_merge import find_config_path
from neox_code.corpus.description.summary_table import print_corpus_table
from neox_code.corpus.shards import load_summary
from neox_code.corpus.sources.find import LOCAL
from neox_code.errors import run_command
from neox_code.installation import LAUNCHER, PACKAGED_CONFIGS
from neox_code.quickstart.main_job import MainJob
from neox_code.quickstart.report import compare_with_gzip, format_duration, format_warnings
from neox_code.quickstart.steps import Record, claim_folder, run_steps

DEFAULT_OUTPUT = Path("checkpoints/quickstart")


def main(argv: Sequence[str]) -> int:
    arguments = build_parser().parse_args(argv)
    job = MainJob(arguments.output, tuple(arguments.source or [LOCAL]), find_config_path(arguments.config))
    steps = job.steps()
    with report_figures(arguments.json) as figures, claim_folder(job.output, arguments.fresh):
        job.write_configuration()
        records = run_steps(steps, job.output)
        print_results(job, records)
        figures |= make_job_figures(job)
    return 0


def build_parser() -> Parser:
    """Return the parser of the command line."""
    result = Parser(__doc__, f"{LAUNCHER} quickstart")
    add = result.add_argument
    add(
        "--source",
        action="append",
        metavar="PATH",
        help=f"folder, git repository, tar or zip archive, or {LOCAL} (the default): the Python library and packages; repeatable",
    )
    add("--output", type=Path, default=DEFAULT_OUTPUT, metavar="DIR", help="folder for all results (default %(default)s)")
    add("--fresh", action="store_true", help="delete the contents of the output folder, and start over")
    default = str(PACKAGED_CONFIGS / "quickstart.yml")
    add("--config", default=default, metavar="FILE", help="model, training and generation (default configs/quickstart.yml)")
    add_json_option(result)
    return result


def make_job_figures(job: MainJob) -> dict[str, Any]:
    """Return the figures of the report for JSON."""
    findings = job.collect_findings()
    return {
        "report": job.report_file,
        "files": findings.corpus.kept_files,
        "bytes": findings.corpus.kept_bytes,
        "vocab_size": findings.vocab_size,
        "train_tokens": findings.train_tokens,
        "metrics": findings.metrics[-1] if findings.metrics else None,
        "heldout": findings.heldout and findings.heldout.to_json(),
        "seconds": findings.seconds,
        "warnings": list(format_warnings(findings)),
        "next_commands": findings.next_commands,
    }


def print_results(job: MainJob, records: Sequence[Record]) -> None:
    """Print the figures of the finished steps and the commands to continue with."""
    console = Console(highlight=False)
    print_corpus_table(console, load_summary(job.corpus))
    console.print(make_time_table(records))
    heldout = job.read_heldout()
    for row in heldout.languages if heldout else ():
        console.print(f"{row.language}: {row.bits_per_byte('model'):.3f} bits per byte on held-out files, {compare_with_gzip(row)}")
    for warning in format_warnings(job.collect_findings()):
        console.print(f"warning: {warning}", soft_wrap=True)
    console.print(f"\nreport: {job.report_file}\n\nnext:", soft_wrap=True)
    for purpose, command in job.make_next_commands().items():
        console.print(f"  # {purpose}\n  {command}", soft_wrap=True, markup=False)


def make_time_table(records: Sequence[Record]) -> Table:
    table = Table("step", show_footer=True)
    table.add_column("time", justify="right", footer=format_duration(sum(record.seconds for record in records)))
    for record in records:
        table.add_row(record.stage, format_duration(record.seconds))
    return table


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
