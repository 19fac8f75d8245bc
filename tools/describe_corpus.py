#!/usr/bin/env python3
"""Describe a corpus of tools/build_corpus.py: print tables, and write a report page that needs no network.

    python tools/describe_corpus.py data/corpus                                             writes data/corpus.html
    python tools/describe_corpus.py corpus --tokenizer-type HFTokenizer --vocab-file tokenizer.json --output report.html

The report has tables of files, bytes and tokens by language; of drop reasons, with three examples each; of duplicates, sizes,
licenses, edits, encodings, line ends, splits, stars and the largest repositories. It also has the bytes per token by language, from
the tokens that the build counted or from the given tokenizer on a seeded sample. Memory does not grow with the corpus.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import set_up  # noqa: F401
from rich.console import Console

from neox_code.config.command_line import Parser, add_json_option, parse_positive_number, report_figures
from neox_code.config.data import DataConfig
from neox_code.corpus.description.console import print_description
from neox_code.corpus.description.describe import SAMPLE_BYTES, SEED, describe
from neox_code.corpus.description.page import write_page
from neox_code.corpus.description.tables import Table, make_tables
from neox_code.errors import ConfigError, run_command
from neox_code.tokenizer.gpt2 import MERGE_FILE_READERS
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import TOKENIZERS, build_tokenizer


def main(argv: Sequence[str]) -> int:
    """Print the tables of a corpus and write its page; return the exit status."""
    arguments = make_parser().parse_args(argv)
    output = arguments.output or Path(f"{arguments.corpus.resolve()}.html")
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder. Give the path of a file for the page.")
    tokenizer = build_given_tokenizer(arguments)
    with report_figures(arguments.json) as figures:
        description = describe(arguments.corpus, tokenizer, int(arguments.sample_megabytes * 1e6), arguments.seed)
        console = Console()
        print_description(console, description)
        write_page(description, output)
        console.print(f"\nThe page is {output}", highlight=False, markup=False, soft_wrap=True)
        figures |= {"corpus": arguments.corpus, "recipe": description.summary.recipe, "page": output}
        figures |= {key: make_row_dictionaries(table) for key, table in make_tables(description).items()}
    return 0


def make_row_dictionaries(table: Table) -> list[dict[str, Any]]:
    """Return a table's rows as dictionaries: heading of a column -> value."""
    headings = [column.heading for column in table.columns]
    return [dict(zip(headings, row, strict=True)) for row in table.rows]


def build_given_tokenizer(arguments: argparse.Namespace) -> Tokenizer | None:
    """Build the tokenizer of the options. Raise ConfigError for vocabulary files without a tokenizer type."""
    if arguments.tokenizer_type is None:
        if arguments.vocab_file or arguments.merge_file:
            raise ConfigError(f"--vocab-file and --merge-file need --tokenizer-type: one of {', '.join(TOKENIZERS)}.")
        return None
    keys = ("tokenizer_type", "vocab_file", "merge_file", "merge_file_reader")
    return build_tokenizer(DataConfig(**{key: getattr(arguments, key) for key in keys}))


def make_parser() -> Parser:
    """Return the parser of the command line."""
    result = Parser(__doc__)
    result.add_argument("corpus", type=Path, metavar="DIR", help="folder of a corpus")
    result.add_argument("--output", type=Path, metavar="FILE", help="report page (HTML); default: DIR.html, beside the corpus")
    vocabulary = result.add_argument_group("tokenizer, to count bytes per token")
    vocabulary.add_argument("--tokenizer-type", choices=list(TOKENIZERS))
    vocabulary.add_argument(
        "--vocab-file", metavar="FILE", help="vocab.json, tokenizer.json, a SentencePiece model, or a tiktoken encoding"
    )
    vocabulary.add_argument("--merge-file", metavar="FILE", help="merges.txt")
    vocabulary.add_argument("--merge-file-reader", choices=list(MERGE_FILE_READERS), default="whole", help="default %(default)s")
    vocabulary.add_argument(
        "--sample-megabytes",
        type=parse_positive_number,
        default=SAMPLE_BYTES / 1e6,
        metavar="N",
        help="size of the sample of each language (default %(default)g)",
    )
    vocabulary.add_argument("--seed", type=int, default=SEED, help="seed of the sample (default %(default)s)")
    add_json_option(result)
    return result


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
