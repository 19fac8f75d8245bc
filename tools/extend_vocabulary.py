"""Add tokens to the vocabulary of a model, or to a vocabulary for training from scratch.

    python tools/extend_vocabulary.py checkpoints extended --infilling
    python tools/extend_vocabulary.py checkpoints extended --whitespace --mean
    python tools/extend_vocabulary.py model extended --tokens tokens.json --like "<|endoftext|>"
    python tools/extend_vocabulary.py data/code/code-vocab.json vocabulary --infilling

SOURCE is the folder of a model of any format, or a vocabulary: a tokenizer.json, a vocab.json with its merges.txt beside it, a
SentencePiece .model, a .tiktoken file, a folder with one of them, the name of an encoding of tiktoken, or CharLevelTokenizer.
OUTPUT is a new folder; a model there has the same format. The extended vocabulary is a tokenizer.json, or a tokenizer.model of
SentencePiece; texts without new tokens keep their ids. Ordinary tokens (--whitespace, --tokens) are used wherever their text
occurs. Special tokens (--infilling, or "special": true in a JSON file) never come from text. The new rows of the embedding and the
head are means of the model's rows. All other parameters are unchanged. Train the model before you rely on the new tokens.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import set_up  # noqa: F401

from neox_code.checkpoint.layout import find_checkpoint
from neox_code.config.command_line import Parser, parse_non_negative_integer, parse_path
from neox_code.conversion.convert import choose_format, require_new_path, write_model
from neox_code.conversion.extension import (
    INFILLING,
    WHITESPACE,
    NewToken,
    RowRule,
    choose_all_ids,
    choose_new_tokens,
    choose_piece_ids,
    choose_token_id,
    extend_vocabulary,
    find_vocabulary,
    make_extensible,
    read_tokens,
    write_extended_vocabulary,
)
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import open_source
from neox_code.errors import CheckpointError, ConfigError, run_command
from neox_code.logs import get_logger
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    """Write the model with the extended vocabulary; return the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("source", type=parse_path, metavar="SOURCE", help="the folder of the model, or a vocabulary")
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
    if (tokenizer := find_vocabulary(words.source)) and not has_model(words.source):
        extend_file(tokenizer, tokens, words.output)
        return 0
    source = open_source(words.source, words.iteration)
    with TemporaryDirectory() as folder:
        extended = extend_vocabulary(source, tokens, rule, Path(folder))
        write_model(extended, words.output, choose_format(extended), ConversionOptions())
    return 0


def has_model(path: Path) -> bool:
    try:
        find_checkpoint(path)
    except CheckpointError:
        return False
    return True


def extend_file(tokenizer: Tokenizer, tokens: Sequence[NewToken], output: Path) -> None:
    """Write an extended vocabulary into the new folder `output`, and log its keys for a configuration."""
    old = make_extensible(tokenizer)
    added = choose_new_tokens(old, tokens)
    output.mkdir(parents=True)
    keys = write_extended_vocabulary(old, added, output)
    log.info("%d new tokens have the ids %s to %s", len(added), f"{old.vocab_size:,}", f"{old.vocab_size + len(added) - 1:,}")
    log.info("to train with them: %s", ", ".join(f"{key}: {value}" for key, value in keys.items()))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
