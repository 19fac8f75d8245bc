"""Fine-tune a model on rows: instructions, prompts and completions, chats, or source code.

./deepy.py finetune BASE CONFIG...                   BASE is a folder with a model: of this program, GPT-NeoX or Hugging Face
./deepy.py finetune CONFIG... --base BASE --show 3   print rows as the model reads them, and end
./deepy.py finetune --demo --base checkpoints/quickstart --output DIR      adapt a model to a new language, and write a page on it

The run saves, resumes and ends as `train` does: rerun the same command to resume. docs/finetuning.md explains the rows.
"""

import sys
from collections.abc import Sequence

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.errors import EXIT_RESUME, ConfigError
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


def main(argv: Sequence[str]) -> int:
    """Fine-tune on this rank; return 0, or EXIT_RESUME if a signal ended the run. With --show, print rows and return 0."""
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


if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:])
