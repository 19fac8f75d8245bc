"""Convert a model from any format to another one.

./deepy.py convert checkpoints model --to huggingface
./deepy.py convert checkpoints model.gguf --to gguf --dtype q8_0
./deepy.py convert checkpoints model --to huggingface --merge-adapter checkpoints/kotlin/adapter
./deepy.py convert checkpoints kotlin-adapter --to adapter --adapter checkpoints/kotlin/adapter --card card.yml --push OWNER/NAME
./deepy.py convert pythia-410m checkpoints/pythia --to neox --model-parallel-size 2

SOURCE is the folder of a checkpoint of this package or of GPT-NeoX, or of a model of Hugging Face; its format is recognized. OUTPUT
must be new. The vocabulary and the configuration go with the weights.
"""

import sys
from collections.abc import Sequence

from neox_code.config.command_line import (
    Parser,
    parse_assignment,
    parse_non_negative_integer,
    parse_path,
    parse_positive_integer,
    parse_positive_number,
)
from neox_code.conversion.card_facts import KEYS, NO_FACTS, load_card_facts
from neox_code.conversion.convert import WRITERS, convert
from neox_code.conversion.hub import open_hub, push
from neox_code.conversion.options import BYTES_PER_SHARD, DTYPES, QUANTIZED, ConversionOptions
from neox_code.errors import ConfigError, run_command
from neox_code.installation import LAUNCHER
from neox_code.logs import get_logger

log = get_logger(__name__)

FORMATS_OF_OPTIONS = {
    "shard_size": ("huggingface",),
    "push": ("huggingface", "adapter"),
    "card": ("huggingface", "adapter"),
    "merge_adapter": ("neox", "huggingface", "gguf", "universal"),
    "adapter": ("adapter",),
    "model_parallel_size": ("neox",),
    "pipe_parallel_size": ("neox", "universal"),
}
"""Option -> the output formats in which the option has an effect."""


def main(argv: Sequence[str]) -> int:
    """Convert the model that the command line names; return 0."""
    parser = Parser(__doc__, f"{LAUNCHER} convert")
    parser.add_argument("source", type=parse_path, metavar="SOURCE", help="the folder of the model")
    parser.add_argument("output", type=parse_path, metavar="OUTPUT", help="the folder or file to write; it must be new")
    parser.add_argument("--to", required=True, choices=WRITERS, help="the format to write")
    parser.add_argument("--iteration", type=parse_non_negative_integer, metavar="N", help="read global_stepN instead of the latest")
    parser.add_argument(
        "--dtype",
        choices=(*DTYPES, *QUANTIZED),
        help="type of the weights that are written (default: that of the source); the last two for --to gguf",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the model's configuration (repeatable)"
    )
    parser.add_argument(
        "--shard-size",
        type=parse_positive_number,
        metavar="GB",
        help=f"huggingface: largest file of weights (default: {BYTES_PER_SHARD / 1e9:g})",
    )
    parser.add_argument("--merge-adapter", type=parse_path, metavar="DIR", help="add an adapter in PEFT's format to the weights")
    parser.add_argument(
        "--adapter", type=parse_path, metavar="DIR", help="adapter: the adapter for SOURCE that is written, with a card"
    )
    parser.add_argument("--push", metavar="REPOSITORY", help="huggingface and adapter: upload the folder to OWNER/MODEL on the Hub")
    card = f"huggingface and adapter: facts for the card: {', '.join(KEYS)}"
    parser.add_argument("--card", type=parse_path, metavar="FILE.yml", help=card)
    parser.add_argument(
        "--model-parallel-size", type=parse_positive_integer, metavar="T", help="neox: tensor-parallel ranks (default: 1)"
    )
    parser.add_argument(
        "--pipe-parallel-size",
        type=parse_non_negative_integer,
        metavar="P",
        help="neox and universal: pipeline stages (default: 1); 0 writes the files and names of a model without a pipeline",
    )
    words = parser.parse_args(list(argv))
    for name, formats in FORMATS_OF_OPTIONS.items():
        if getattr(words, name) is not None and words.to not in formats:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} has no effect on --to {words.to}, only on {' and '.join(formats)}. Leave it out.")
    if words.to == "adapter" and words.adapter is None:
        raise ConfigError("--to adapter needs --adapter DIR, the folder of the adapter for SOURCE.")
    facts = load_card_facts(words.card) if words.card else NO_FACTS
    hub = open_hub(words.push) if words.push else None
    options = ConversionOptions(
        words.dtype,
        int(words.shard_size * 1e9) if words.shard_size else BYTES_PER_SHARD,
        words.adapter or words.merge_adapter,
        facts,
        words.model_parallel_size or 1,
        1 if words.pipe_parallel_size is None else words.pipe_parallel_size,
    )
    convert(words.source, words.output, words.to, options, words.iteration, dict(map(parse_assignment, words.set)))
    if hub:
        log.info("%s uploaded: %s", words.output, push(hub, words.push, words.output))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
