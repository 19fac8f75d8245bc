"""How long this machine takes for an optimizer step of a configuration.

    python -m neox_code.benchmarks.pace CONFIG... --output pace.json        {"seconds_per_step": 0.21}

The real engine on one rank, random tokens, the configured batch. For those who have a time and want a number of steps.
"""

import sys
import time
from collections.abc import Sequence

from neox_code.benchmarks.steps import our_step, random_tokens, synchronize
from neox_code.config.command_line import config_parser, from_parsed
from neox_code.files import write_json
from neox_code.launch.supervise import run_rank
from neox_code.parallel.startup import startup
from neox_code.tokenizer.registry import build_tokenizer

WARM_UP_STEPS, MEASURED_STEPS = 2, 4


def main(argv: Sequence[str]) -> int:
    parser = config_parser(__doc__, "pace")
    parser.add_argument("--output", required=True, help="JSON file for the result")
    parsed = parser.parse_intermixed_args(list(argv))
    config = from_parsed(parsed).load()
    with startup(config.parallelism) as grid:
        sizes = config.batch_sizes(grid.data_size)
        vocab_size = build_tokenizer(config.data).vocab_size
        step = our_step(config, grid, vocab_size)
        tokens_BS = random_tokens(sizes.micro_batch_size, config.model.sample_length, vocab_size, grid.device)
        for number in range(WARM_UP_STEPS + MEASURED_STEPS):
            if number == WARM_UP_STEPS:
                synchronize(grid.device)
                begin = time.perf_counter()
            step(tokens_BS)
        synchronize(grid.device)
        write_json(parsed.output, {"seconds_per_step": (time.perf_counter() - begin) / MEASURED_STEPS})
    return 0


if __name__ == "__main__":
    sys.exit(run_rank(main, sys.argv[1:]))
