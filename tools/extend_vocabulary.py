"""Add tokens to the vocabulary of a model.

    python tools/extend_vocabulary.py checkpoints extended --infilling
    python tools/extend_vocabulary.py checkpoints extended --whitespace --mean
    python tools/extend_vocabulary.py model extended --tokens tokens.json --like "<|endoftext|>"

SOURCE is the folder of a model of any format. OUTPUT is a new folder; the model there has the same format, and tokenizer.json with
the extended vocabulary. Ordinary tokens (--whitespace, --tokens) are used wherever their text occurs. Special tokens (--infilling,
or "special": true in a JSON file) never come from text. The new rows of the embedding and the head are means of the model's rows.
All other parameters are unchanged. Train the model before you rely on the new tokens.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import set_up  # noqa: F401

from neox_code.config.command_line import Parser, parse_non_negative_integer, parse_path
from neox_code.conversion.convert import choose_format, require_new_path, write_model
from neox_code.conversion.extension import (
    INFILLING,
    WHITESPACE,
    RowRule,
    choose_all_ids,
    choose_piece_ids,
    choose_token_id,
    extend_vocabulary,
    read_tokens,
)
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import open_source
from neox_code.errors import ConfigError, run_command


def main(argv: Sequence[str]) -> int:
    """Write the model with the extended vocabulary; return the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("source", type=parse_path, metavar="SOURCE", help="the folder of the model")
    parser.add_argument("output", type=parse_path, metavar="OUTPUT", help="the folder to write; it must be new")
    parser.add_argument("--iteration", type=parse_non_negative_integer, metavar="N", help="read global_stepN instead of the latest")
    parser.add_argument(
        "--tokens", type=parse_path, metavar="FILE", help="tokens to add: a line each, or a JSON list of texts or of objects"
    )
    spaces = ", ".join(repr(token.text) for token in WHITESPACE)
    parser.add_argument("--whitespace", action="store_true", help=f"add tokens for indentation: {spaces}")
    marks = ", ".join(token.text for token in INFILLING)
    parser.add_argument("--infilling", action="store_true", help=f"add special tokens for infilling: {marks}")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--like", metavar="TOKEN", help="new rows are those of this token")
    rows.add_argument(
        "--mean",
        action="store_true",
        help="new rows are the mean of all rows (default: the mean of the tokens into which the new token's text is encoded today)",
    )
    words = parser.parse_args(argv)
    tokens = [*(WHITESPACE if words.whitespace else ()), *(INFILLING if words.infilling else ())]
    tokens += read_tokens(words.tokens) if words.tokens else []
    if not tokens:
        raise ConfigError("no tokens are named. Add --whitespace, --infilling or --tokens FILE.")
    rule: RowRule = choose_all_ids if words.mean else choose_piece_ids
    if words.like is not None:
        rule = partial(choose_token_id, words.like)
    require_new_path(words.output)
    source = open_source(words.source, words.iteration)
    with TemporaryDirectory() as folder:
        extended = extend_vocabulary(source, tokens, rule, Path(folder))
        write_model(extended, words.output, choose_format(extended), ConversionOptions())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
