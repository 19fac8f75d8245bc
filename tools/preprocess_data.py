"""Tokenize texts into token files, with GPT-NeoX's options.

    python tools/preprocess_data.py --input code.jsonl.zst --tokenizer-type GPT2BPETokenizer --vocab-file code-vocab.json \\
        --merge-file code-merges.txt --append-eod --output-prefix data/code --workers 8

The command writes data/code_text_document.bin and .idx. An input is one of these:

    a dataset: a file of Parquet, JSON Lines (.jsonl, .ndjson, .json; also .gz, .bz2, .xz, .zst) or one JSON list of rows, or a
        folder of such files at any depth without source code
    a folder of source files: every regular file with content is a document, in the order of the paths
    a corpus of tools/build_corpus.py: one pair for each split (data/code_train_text_document and so on)

To use archives, bare repositories or repository lists, build a corpus from them with tools/build_corpus.py.

PREFIX.tokens.json beside each pair records its vocabulary and highest id. Training compares both with its own vocabulary.
PREFIX.origins.parquet records repository, path, license, language and size of each document, for tools/which_documents.py.
The bytes are the same for any number of workers and any executor. Rerun the same command to resume.

With --executor slurm or ray (pip install 'neox-code[cluster]' for ray) other machines do the work, as in tools/build_corpus.py.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import set_up  # noqa: F401
import yaml

from neox_code.config.command_line import Parser, parse_positive_integer
from neox_code.config.data import DataConfig
from neox_code.corpus.executors.options import add_executor_options, build_executor
from neox_code.corpus.executors.stages import Executor
from neox_code.corpus.shards import SPLITS, is_corpus
from neox_code.corpus.tokens.input_slices import DEFAULT_KEY, InputSlice, slice_input
from neox_code.corpus.tokens.token_files import CountsByLanguage, ProgressBar, remove_finished_notes, write_token_files
from neox_code.corpus.tokens.tokenize_shards import make_token_file_name, tokenize_corpus
from neox_code.corpus.tokens.tokenize_slice import WriteOptions, load_ftfy
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
    arguments = parse_arguments(argv)
    keys = ("tokenizer_type", "vocab_file", "merge_file", "merge_file_reader")
    tokenizer = build_tokenizer(DataConfig(**{key: getattr(arguments, key) for key in keys}))
    inputs = [Path(name) for name in arguments.input.split(",") if name]
    with build_executor(arguments, needs=[str(path) for path in inputs]) as executor:
        if any(map(is_corpus, inputs)):
            tokenize_one_corpus(inputs, tokenizer, arguments, executor)
        else:
            slices = {
                key: [input_slice for path in inputs for input_slice in slice_input(path, key, arguments.by_language)]
                for key in arguments.jsonl_keys
            }
            for key in arguments.jsonl_keys:
                tokenize_inputs(slices[key], key, tokenizer, arguments, executor)
            remove_finished_notes(make_prefix(arguments, key, None) for key in arguments.jsonl_keys)
    return 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
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
        help="keys or columns of the texts; each gets its own token files (default text; in Parquet also content or code)",
    )
    data.add_argument(
        "--num-docs",
        type=parse_positive_integer,
        help="number of documents, if known: the progress bar then counts documents, not bytes",
    )
    data.add_argument(
        "--newlines",
        choices=list(NEWLINES),
        help="treatment of line ends with CR (default lf if the vocabulary has no CR, else keep)",
    )
    data.add_argument("--ftfy", action="store_true", help="repair broken Unicode with ftfy (pip install ftfy), which changes texts")
    data.add_argument(
        "--skip-unencodable",
        action="store_true",
        help="count and leave out documents that cannot be read or encoded, and log the first ten (default: stop at the first)",
    )
    vocabulary = parser.add_argument_group("tokenizer")
    vocabulary.add_argument("--tokenizer-type", required=True, choices=list(TOKENIZERS))
    vocabulary.add_argument("--vocab-file", help="vocab.json, tokenizer.json, a SentencePiece model, or a tiktoken encoding")
    vocabulary.add_argument("--merge-file", help="merges.txt")
    vocabulary.add_argument("--merge-file-reader", choices=list(MERGE_FILE_READERS), default="whole", help="default %(default)s")
    vocabulary.add_argument("--append-eod", action="store_true", help="write an end-of-document token after every document")
    output = parser.add_argument_group("output")
    output.add_argument("--output-prefix", required=True, help="path of the token files without _KEY_document.bin")
    output.add_argument(
        "--by-language",
        action="store_true",
        help="write PREFIX_LANGUAGE_KEY_document for each language; paths and weights are written to PREFIX_datasets.yml",
    )
    output.add_argument("--dataset-impl", default="mmap", help="only mmap")
    runtime = parser.add_argument_group("runtime")
    runtime.add_argument("--workers", type=parse_positive_integer, help="number of processes; default: one for each core")
    add_executor_options(runtime)
    runtime.add_argument(
        "--log-interval", type=parse_positive_integer, help="documents between log lines; default: a log line every 10 seconds"
    )
    arguments = parser.parse_args(argv)
    check_arguments(arguments)
    return arguments


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ConfigError with all problems of the arguments. With --ftfy, load ftfy, to report a missing package before the work."""
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
        load_ftfy()


def tokenize_one_corpus(inputs: list[Path], tokenizer: Tokenizer, arguments: argparse.Namespace, executor: Executor | None) -> None:
    """Write token files of each split of a corpus folder, and PREFIX_datasets.yml with --by-language."""
    if len(inputs) > 1 or arguments.jsonl_keys != [DEFAULT_KEY]:
        raise ConfigError(
            "A corpus folder must be the only --input, and --jsonl-keys must be text. Process other inputs in separate runs."
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
        bar=ProgressBar(arguments.num_docs, arguments.log_interval),
        executor=executor,
    )
    if arguments.by_language:
        counts = {
            split: {
                str(prefix.parent / f"{prefix.name}_{make_token_file_name(split, language)}"): own
                for language, own in languages.items()
            }
            for split, languages in summary.splits.items()
        }
        write_datasets_file(Path(f"{prefix}_datasets.yml"), counts)


def tokenize_inputs(
    slices: Sequence[InputSlice], key: str, tokenizer: Tokenizer, arguments: argparse.Namespace, executor: Executor | None
) -> None:
    """Write the token files of all inputs for one key, the field or column with the text. Source files have no keys."""
    newlines = arguments.newlines or choose_default_newlines(tokenizer)
    options = WriteOptions(arguments.append_eod, newlines, arguments.by_language, arguments.ftfy, arguments.skip_unencodable)
    bar = ProgressBar(arguments.num_docs, arguments.log_interval)
    prefix_of = partial(make_prefix, arguments, key)
    counts = write_token_files(
        prefix_of, slices, tokenizer, options, arguments.workers, bar, keep_finished_note=True, executor=executor
    )
    if not any(count.documents for count in counts.values()):
        remove_finished_notes([prefix_of(None)])
        raise DataError(f"{arguments.input} has no document with tokens under {key!r}. Give another input or another key.")
    if arguments.by_language:
        name = "_".join([arguments.output_prefix, *([key] if len(arguments.jsonl_keys) > 1 else []), "datasets.yml"])
        write_datasets_file(Path(name), {"train": {str(prefix_of(language)): own for language, own in counts.items()}})


def write_datasets_file(path: Path, counts: Mapping[str, CountsByLanguage]) -> None:
    """Write a configuration file with the token files of every split, the largest first. A file's weight is its token count."""
    config: dict[str, list[str] | list[int]] = {}
    for split, files in counts.items():
        tokens = {prefix: own.tokens for prefix, own in files.items() if own.documents}
        order = sorted(tokens, key=lambda prefix: (-tokens[prefix], prefix))
        if order:
            config |= {f"{split}_data_paths": order, f"{split}_data_weights": [tokens[prefix] for prefix in order]}
    write_text(path, DATASETS_HEAD + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    log.info(
        "%s: train reads it with the other configurations (train CONFIG... %s); raise a weight to sample a language more often",
        *(path, path),
    )


def make_prefix(arguments: argparse.Namespace, key: str, language: str | None) -> str:
    return "_".join(filter(None, (arguments.output_prefix, language, key, "document")))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
