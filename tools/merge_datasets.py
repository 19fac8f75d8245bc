"""Joins token files into one pair, the documents of each after those of the one before.

    python tools/merge_datasets.py --input tokens --output-prefix all_text_document
    python tools/merge_datasets.py --input a_text_document b_text_document --output-prefix all_text_document

An input is a folder, whose pairs are joined in the order of their names, or a pair by its path, with or without .bin or .idx; one
that is named twice, as by PREFIX*, is joined once. All must be of one vocabulary, as
far as their PREFIX.tokens.json record it, and of one type of ids. The result appears whole or not at all;
memory does not grow with it.
"""

import argparse
import sys
from collections.abc import Sequence

from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import bin_path
from neox_code.data.merge import DatasetMerger, dtype_of, token_files
from neox_code.errors import run_command
from neox_code.logs import get_logger, progress

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="merge_datasets.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", nargs="+", required=True, metavar="DIR|PREFIX", help="folder of token files, or token files")
    parser.add_argument("--output-prefix", required=True, metavar="PREFIX", help="path of the result without .bin and .idx")
    arguments = parser.parse_args(argv)
    arguments.output_prefix = arguments.output_prefix.removesuffix(".bin").removesuffix(".idx")
    prefixes = token_files(arguments.input)
    with (
        progress("merging", len(prefixes), "files") as advance,
        DatasetMerger(arguments.output_prefix, dtype_of(prefixes)) as merger,
    ):
        for prefix in prefixes:
            log.info("adding %s", prefix)
            merger.add_dataset(prefix)
            advance(1)
    write_record(arguments.output_prefix, merger.tokenizer, merger.max_id)
    documents, tokens = f"{merger.num_documents:,}", f"{merger.num_tokens:,}"
    log.info("%s: %s documents, %s tokens of %d files", bin_path(arguments.output_prefix), documents, tokens, len(prefixes))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
