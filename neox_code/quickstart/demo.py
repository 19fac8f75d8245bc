"""Adapt a model to a language that it has not seen, by LoRA and by training all weights, and write one page on it.

    ./deepy.py finetune --demo --base checkpoints/quickstart --output checkpoints/demo
    ./deepy.py finetune --demo --base checkpoints/quickstart --output checkpoints/lua --language lua --data ~/lua-projects

The page has bits per byte before and after, on the new language and on those that the model was trained on. Rerun the same command
to resume: finished steps are skipped.
"""

import sys
from argparse import SUPPRESS
from collections.abc import Sequence

from neox_code.config.command_line import Parser, add_json_option, parse_path, report_figures
from neox_code.errors import run_command
from neox_code.files import read_json
from neox_code.installation import LAUNCHER, PACKAGED_CONFIGS
from neox_code.quickstart.adaptation import AdaptationJob
from neox_code.quickstart.steps import claim_folder, run_steps


def main(argv: Sequence[str]) -> int:
    """Adapt a model to a language that it has not seen; return 0."""
    parser = Parser(__doc__, f"{LAUNCHER} finetune --demo")
    add = parser.add_argument
    add("--demo", action="store_true", help=SUPPRESS)
    add("--base", type=parse_path, required=True, metavar="DIR", help="the folder of the model, such as checkpoints/quickstart")
    add("--output", type=parse_path, required=True, metavar="DIR", help="folder for all results")
    add("--language", metavar="NAME|FILE.yml", help="the language (default: that with most bytes that the model has not seen)")
    add("--data", metavar="PATH", help="folder, repository or archive with its files (default: Debian's packages on this machine)")
    add("--known", metavar="PATH", help="corpus or folder of languages that the model was trained on (default: its run's corpus)")
    default = PACKAGED_CONFIGS / "finetuning" / "demo.yml"
    add("--config", type=parse_path, default=default, metavar="FILE", help="training (default configs/finetuning/demo.yml)")
    add("--fresh", action="store_true", help="delete the contents of the output folder, and start over")
    add_json_option(parser)
    words = parser.parse_args(list(argv))
    job = AdaptationJob(words.base, words.output, words.language, words.data, words.known, words.config)
    with report_figures(words.json) as figures:
        steps = job.steps()
        with claim_folder(job.output, words.fresh):
            run_steps(steps, job.output)
        job.print_results()
        figures |= read_json(job.figures_file) | {"report": job.report_file}
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
