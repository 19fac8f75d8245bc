"""Tokenize texts into token files, with GPT-NeoX's options.

    python tools/preprocess_data.py --input code.jsonl.zst --tokenizer-type GPT2BPETokenizer --vocab-file code-vocab.json \\
        --merge-file code-merges.txt --append-eod --output-prefix data/code --workers 8

writes data/code_text_document.bin and .idx. An input is a dataset, a folder of source files (every regular file with content is a
document, in the order of their paths), or a corpus of tools/build_corpus.py (data/code_train_text_document and so on). A dataset
is a file of Parquet, JSON Lines (.jsonl, .ndjson, .json; also .gz, .bz2, .xz, .zst) or one JSON list of rows, or a folder of such
files at any depth without source code. Archives, bare repositories and lists of them are for tools/build_corpus.py.

PREFIX.tokens.json beside each pair records its vocabulary and highest id, which training compares with its own.
The bytes are the same for any number of workers and any executor. Rerun the same command to resume.

With --executor slurm or ray (pip install 'neox-code[cluster]' for ray) other machines do the work, as in tools/build_corpus.py.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from neox_code.config.command_line import Parser, positive_integer
from neox_code.config.data import DataConfig
from neox_code.corpus.executors.options import add_executor_options, build_executor
from neox_code.corpus.executors.stages import Executor
from neox_code.corpus.shards import SPLITS, is_corpus
from neox_code.corpus.tokens.text_pieces import DEFAULT_KEY, Piece, pieces_of
from neox_code.corpus.tokens.token_files import Bar, CountsByLanguage, forget, write_token_files
from neox_code.corpus.tokens.tokenize_piece import Writing, fix_text
from neox_code.corpus.tokens.tokenize_shards import token_file_name, tokenize_corpus
from neox_code.errors import ConfigError, DataError, run_command
from neox_code.files import write_text
from neox_code.logs import get_logger
from neox_code.tokenizer.gpt2 import MERGE_FILE_READERS
from neox_code.tokenizer.newlines import NEWLINES, choose_default_newlines
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import TOKENIZERS, build_tokenizer

DATASETS_HEAD = """# Token files by language: a configuration file, in place of the data paths of configs/local_setup.yml.
# A weight is the number of tokens: each language is read in proportion to its size. Raise one to read a language more often.
"""

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    """Tokenize the inputs; return the exit status."""
    arguments = parse(argv)
    tokenizer = build_tokenizer(
        DataConfig(
            tokenizer_type=arguments.tokenizer_type,
            vocab_file=arguments.vocab_file,
            merge_file=arguments.merge_file,
            merge_file_reader=arguments.merge_file_reader,
        )
    )
    inputs = [Path(name) for name in arguments.input.split(",") if name]
    with build_executor(arguments, needs=[str(path) for path in inputs]) as executor:
        if any(map(is_corpus, inputs)):
            tokenize_one_corpus(inputs, tokenizer, arguments, executor)
        else:
            pieces = {
                key: [piece for path in inputs for piece in pieces_of(path, key, arguments.by_language)]
                for key in arguments.jsonl_keys
            }
            for key in arguments.jsonl_keys:
                tokenize_inputs(pieces[key], key, tokenizer, arguments, executor)
            forget(prefix_of(arguments, key, None) for key in arguments.jsonl_keys)
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser(__doc__)
    data = parser.add_argument_group("input")
    data.add_argument(
        "--input",
        required=True,
        metavar="F[,F...]",
        help="datasets (JSON Lines, Parquet, folders of them), folders of source files; or one corpus folder",
    )
    data.add_argument(
        "--jsonl-keys",
        nargs="+",
        default=[DEFAULT_KEY],
        metavar="KEY",
        help="keys or columns of the texts, each a token file (default text; of Parquet also content or code)",
    )
    data.add_argument(
        "--num-docs", type=positive_integer, help="number of documents, if known: the bar counts them instead of bytes"
    )
    data.add_argument(
        "--newlines", choices=list(NEWLINES), help="line ends with CR (default lf if the vocabulary has no CR, else keep)"
    )
    data.add_argument("--ftfy", action="store_true", help="mend broken Unicode with ftfy (pip install ftfy), which rewrites texts")
    data.add_argument(
        "--skip-unencodable",
        action="store_true",
        help="count and leave out documents that cannot be read or encoded, and name the first ten (default: stop at the first)",
    )
    vocabulary = parser.add_argument_group("tokenizer")
    vocabulary.add_argument("--tokenizer-type", required=True, choices=list(TOKENIZERS))
    vocabulary.add_argument("--vocab-file", help="vocab.json, tokenizer.json, a SentencePiece model, or a tiktoken encoding")
    vocabulary.add_argument("--merge-file", help="merges.txt")
    vocabulary.add_argument("--merge-file-reader", choices=list(MERGE_FILE_READERS), default="whole", help="default %(default)s")
    vocabulary.add_argument("--append-eod", action="store_true", help="an end-of-document token after every document")
    output = parser.add_argument_group("output")
    output.add_argument("--output-prefix", required=True, help="path of the token files without _KEY_document.bin")
    output.add_argument(
        "--by-language",
        action="store_true",
        help="a pair of files for each, PREFIX_LANGUAGE_KEY_document; their paths and weights are in PREFIX_datasets.yml",
    )
    output.add_argument("--dataset-impl", default="mmap", help="only mmap")
    runtime = parser.add_argument_group("runtime")
    runtime.add_argument("--workers", type=positive_integer, help="processes; default: one for each core")
    add_executor_options(runtime)
    runtime.add_argument(
        "--log-interval", type=positive_integer, help="a log line after at least so many documents; default: every 10 seconds"
    )
    arguments = parser.parse_args(argv)
    check_arguments(arguments)
    return arguments


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ConfigError with all problems of the arguments; load ftfy if it is used, so that a missing package is reported now."""
    problems = []
    if not arguments.input.strip(","):
        problems.append("--input is empty. Name JSON Lines files, Parquet files and folders, separated by commas.")
    if arguments.output_prefix.endswith("/"):
        problems.append(f"--output-prefix {arguments.output_prefix} is a folder. Add the beginning of the file names.")
    if arguments.dataset_impl != "mmap":
        problems.append(f"--dataset-impl {arguments.dataset_impl} is no longer written, only mmap. Omit the option.")
    if problems:
        raise ConfigError("\n".join(problems))
    if arguments.ftfy:
        fix_text()


def tokenize_one_corpus(inputs: list[Path], tokenizer: Tokenizer, arguments: argparse.Namespace, executor: Executor | None) -> None:
    """Write token files of each split of a corpus folder, and PREFIX_datasets.yml with --by-language."""
    if len(inputs) > 1 or arguments.jsonl_keys != [DEFAULT_KEY]:
        raise ConfigError(
            "--input with a corpus folder accepts no further inputs, and only --jsonl-keys text. Run others separately."
        )
    prefix = Path(arguments.output_prefix)
    summary = tokenize_corpus(
        inputs[0],
        prefix.parent,
        tokenizer,
        by_language=SPLITS if arguments.by_language else (),
        append_eod=arguments.append_eod,
        newlines=arguments.newlines,
        ftfy=arguments.ftfy,
        skip_unencodable=arguments.skip_unencodable,
        name_prefix=f"{prefix.name}_",
        workers=arguments.workers,
        bar=Bar(arguments.num_docs, arguments.log_interval),
        executor=executor,
    )
    if arguments.by_language:
        named = {
            split: {
                str(prefix.parent / f"{prefix.name}_{token_file_name(split, language)}"): own for language, own in counts.items()
            }
            for split, counts in summary.splits.items()
        }
        write_datasets_file(Path(f"{prefix}_datasets.yml"), named)


def tokenize_inputs(
    pieces: Sequence[Piece], key: str, tokenizer: Tokenizer, arguments: argparse.Namespace, executor: Executor | None
) -> None:
    """Write the token files of one key of JSON Lines, Parquet files and folders."""
    newlines = arguments.newlines or choose_default_newlines(tokenizer)
    writing = Writing(arguments.append_eod, newlines, arguments.by_language, arguments.ftfy, arguments.skip_unencodable)

    bar = Bar(arguments.num_docs, arguments.log_interval)
    named = partial(prefix_of, arguments, key)
    counts = write_token_files(named, pieces, tokenizer, writing, arguments.workers, bar, is_one_of_many=True, executor=executor)
    if not any(count.documents for count in counts.values()):
        forget([named(None)])
        raise DataError(f"{arguments.input} has no document with a token under {key!r}. Name other input, or another key.")
    if arguments.by_language:
        name = "_".join([arguments.output_prefix, *([key] if len(arguments.jsonl_keys) > 1 else []), "datasets.yml"])
        write_datasets_file(Path(name), {"train": {str(named(language)): own for language, own in counts.items()}})


def write_datasets_file(path: Path, counts: Mapping[str, CountsByLanguage]) -> None:
    """Write a configuration file with the token files of every split, and their tokens as weights; the one with most first."""
    config: dict[str, list[str] | list[int]] = {}
    for split, files in counts.items():
        tokens = {prefix: own.tokens for prefix, own in files.items() if own.documents}
        order = sorted(tokens, key=lambda prefix: (-tokens[prefix], prefix))
        if order:
            config |= {f"{split}_data_paths": order, f"{split}_data_weights": [tokens[prefix] for prefix in order]}
    write_text(path, DATASETS_HEAD + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    log.info("%s: for train CONFIG... %s; change the weights to see a language more often", path, path)


def prefix_of(arguments: argparse.Namespace, key: str, language: str | None) -> str:
    return "_".join(filter(None, (arguments.output_prefix, language, key, "document")))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
