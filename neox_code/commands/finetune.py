"""Fine-tune a model on rows: instructions, prompts and completions, chats, or source code.

./deepy.py finetune BASE CONFIG...                   BASE is a folder with a model: of this program, GPT-NeoX or Hugging Face
./deepy.py finetune CONFIG... --base BASE --show 3   print rows as the model reads them, and end
./deepy.py finetune --demo --base checkpoints/quickstart --output DIR      adapt a model to a new language, and write a page on it

The run saves, resumes and ends as `train` does: rerun the same command to resume. docs/finetuning.md explains the rows.
"""

import sys
from argparse import SUPPRESS
from collections.abc import Sequence

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import Parser, add_json_option, parse_command_line, parse_path, report_figures
from neox_code.errors import EXIT_RESUME, ConfigError
from neox_code.files import read_json
from neox_code.installation import LAUNCHER, PACKAGED_CONFIGS
from neox_code.launch.command import check_num_ranks
from neox_code.launch.rank_process import prepare_imports, run_and_exit
from neox_code.launch.slurm_ranks import set_rank_variables
from neox_code.launch.stop_signals import StopRequest

STOP = StopRequest()
if __name__ == "__main__":
    STOP.start()  # before torch starts threads
prepare_imports()

from neox_code.finetuning.finetune import finetune  # noqa: E402
from neox_code.finetuning.show import show_rows  # noqa: E402
from neox_code.parallel.startup import read_rank_variables  # noqa: E402
from neox_code.quickstart.adaptation import AdaptationJob  # noqa: E402
from neox_code.quickstart.steps import claim_folder, run_steps  # noqa: E402

DEMO = """Adapt a model to a language that it has not seen, by LoRA and by training all weights, and write one page on it.

    ./deepy.py finetune --demo --base checkpoints/quickstart --output checkpoints/demo
    ./deepy.py finetune --demo --base checkpoints/quickstart --output checkpoints/lua --language lua --data ~/lua-projects

The page has bits per byte before and after, on the new language and on those that the model was trained on. Rerun the same command
to resume: finished steps are skipped."""


def main(argv: Sequence[str]) -> int:
    """Fine-tune on this rank; return 0, or EXIT_RESUME if a signal ended the run. With --show, print rows and return 0."""
    if "--demo" in argv:
        return run_demo(argv)
    command_line = parse_command_line(argv, __doc__, "finetune")
    if command_line.max_restarts:
        raise ConfigError("--max-restarts is an option of ./deepy.py finetune. torchrun and Slurm have options of their own.")
    config = load_config(command_line).for_finetuning()
    if command_line.show:
        show_rows(config, command_line.show)
        return 0
    set_rank_variables()
    config.require_finetuning_keys()
    check_num_ranks(read_rank_variables()[1], config)
    finetune(config, STOP)
    return EXIT_RESUME if STOP.was_followed else 0


def run_demo(argv: Sequence[str]) -> int:
    """Adapt a model to a language that it has not seen; return 0."""
    parser = Parser(DEMO, f"{LAUNCHER} finetune --demo")
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
    run_and_exit(main, sys.argv[1:])
