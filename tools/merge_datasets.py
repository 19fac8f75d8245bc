"""Merge token files into one pair (.bin and .idx), in the given order.

    python tools/merge_datasets.py --input tokens --output-prefix all_text_document
    python tools/merge_datasets.py --input a_text_document b_text_document --output-prefix all_text_document

An input is the path of a pair, with or without .bin or .idx, or a folder: its pairs are merged in the order of their names. A pair
that is named twice, as by PREFIX*, is merged once. All inputs must have ids of the same type, and the same vocabulary where
PREFIX.tokens.json records it. Nothing is written if the merge fails. Memory does not grow with the input.
"""

import sys
from collections.abc import Sequence

import set_up  # noqa: F401

from neox_code.config.command_line import Parser, add_json_option, report_figures
from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import get_bin_path
from neox_code.data.merge import DatasetMerger, find_token_files, read_dtype
from neox_code.data.origins import merge_origins
from neox_code.errors import run_command
from neox_code.logs import format_plural, get_logger, progress

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    """Merge the token files; return the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("--input", nargs="+", required=True, metavar="DIR|PREFIX", help="folder of token files, or token files")
    parser.add_argument("--output-prefix", required=True, metavar="PREFIX", help="path of the result without .bin and .idx")
    add_json_option(parser)
    arguments = parser.parse_args(argv)
    arguments.output_prefix = arguments.output_prefix.removesuffix(".bin").removesuffix(".idx")
    prefixes = find_token_files(arguments.input)
    with (
        report_figures(arguments.json) as figures,
        progress("merging", len(prefixes), "files") as advance,
        DatasetMerger(arguments.output_prefix, read_dtype(prefixes)) as merger,
    ):
        for prefix in prefixes:
            log.info("adding %s", prefix)
            merger.add_dataset(prefix)
            advance(1)
        figures |= {"output_prefix": arguments.output_prefix, "files": len(prefixes)}
        figures |= {"documents": merger.num_documents, "tokens": merger.num_tokens}
    write_record(arguments.output_prefix, merger.tokenizer, merger.max_id)
    if not merge_origins(prefixes, arguments.output_prefix):
        log.info("an input has no .origins.parquet, so that tools/which_documents.py cannot name the documents of the output")
    documents, tokens = format_plural(merger.num_documents, "document"), format_plural(merger.num_tokens, "token")
    log.info("%s: %s, %s of %s", get_bin_path(arguments.output_prefix), documents, tokens, format_plural(len(prefixes), "file"))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
