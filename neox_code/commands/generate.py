"""Complete code with a trained model.

    ./deepy.py generate CONFIG... [-i FILE] [-o FILE] [--iteration N]

text_gen_type selects one of three modes: interactive (prompts are typed), input-file (prompts are files, or rows of JSON Lines),
unconditional (new documents). The last two write JSON Lines to the file of -o, or to standard output. A row is on the disk before
the next one is written; the same command continues an interrupted output. If a prompt cannot be completed, for example because it
fills the model's context, its row contains the reason. The other prompts are completed, and the exit status is 2.

With `-i - --set sample_input_format=jsonl` the command is a pipe: it reads rows such as {"prompt": "int main("}, and writes the
result of each row as soon as it is complete. A row can contain a suffix, and keys of the generation section for this row alone.

The same seed and prompt give the same completion, alone and in any batch: bitwise equal in bf16 on a CPU, and equal up to fp32
rounding elsewhere. docs/generation.md lists the fields of a row and the other guarantees.
"""

import sys
from collections.abc import Sequence

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.config.generation import GenerationConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import EXIT_USER_ERROR, ConfigError, run_command
from neox_code.generation.generator import Generator
from neox_code.generation.interactive import interact
from neox_code.generation.loading import load_model
from neox_code.generation.prompts import STANDARD_INPUT, PromptItem, read_prompts
from neox_code.generation.samples import SampleOutput, answer_lines, write_samples
from neox_code.planning.missing import require_files


def main(argv: Sequence[str]) -> int:
    """Complete prompts in the configured mode; return EXIT_USER_ERROR if a prompt was refused, else 0."""
    config = load_config(parse_command_line(argv, __doc__, "generate"))
    require_files(config, "generate")
    section = config.generation
    output = section.sample_output_file
    if select_mode(section) == "interactive":
        interact(build_generator(config), section.prompt_end)
        return 0
    if section.sample_input_file == STANDARD_INPUT and section.sample_input_format == "jsonl":
        refused = answer_lines(output, build_generator(config), sys.stdin.buffer)
    else:
        items = read_mode_prompts(section)
        refused = write_samples(SampleOutput(output, build_generator(config), items))
    return EXIT_USER_ERROR if refused else 0


def select_mode(section: GenerationConfig) -> str:
    return section.text_gen_type or ("input-file" if section.sample_input_file else "unconditional")


def read_mode_prompts(section: GenerationConfig) -> list[PromptItem]:
    """Return the prompts of the modes input-file and unconditional. An empty prompt begins a new document."""
    if select_mode(section) == "unconditional":
        return [PromptItem("")] * section.num_samples
    if not section.sample_input_file:
        raise ConfigError("text_gen_type is input-file, but sample_input_file is not set. Name the prompt's file by -i FILE.")
    return read_prompts(section.sample_input_file, section.prompt_end, section.sample_input_format)


def build_generator(config: NeoXConfig) -> Generator:
    return Generator(load_model(config), config.generation, config.training.seed)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
