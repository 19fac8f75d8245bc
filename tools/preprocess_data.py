"""Turns texts into token files, with GPT-NeoX's options.

    python tools/preprocess_data.py --input code.jsonl --tokenizer-type GPT2BPETokenizer --vocab-file code-vocab.json \\
        --merge-file code-merges.txt --append-eod --output-prefix data/code

writes data/code_text_document.bin and .idx. An input is a JSON Lines file, a folder of source files (every regular file with
content is a document, in the order of their paths), or a corpus of tools/build_corpus.py (data/code_train_text_document and so on).
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from neox_code.config.data import DataConfig
from neox_code.corpus.raw_documents import iter_files, iter_json_lines, list_files
from neox_code.corpus.shards import Document, is_corpus
from neox_code.corpus.tokenize_shards import tokenize_corpus, write_token_file
from neox_code.errors import ConfigError, DataError, run_command
from neox_code.logs import get_logger
from neox_code.tokenizer.gpt2 import MERGE_FILE_READERS
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import TOKENIZERS, build_tokenizer

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    if arguments.workers is not None:
        os.environ["RAYON_NUM_THREADS"] = str(arguments.workers)
    tokenizer = build_tokenizer(
        DataConfig(
            tokenizer_type=arguments.tokenizer_type,
            vocab_file=arguments.vocab_file,
            merge_file=arguments.merge_file,
            merge_file_reader=arguments.merge_file_reader,
        )
    )
    inputs = [Path(name) for name in arguments.input.split(",")]
    if any(map(is_corpus, inputs)):
        tokenize_one_corpus(inputs, tokenizer, arguments)
    else:
        for key in arguments.jsonl_keys:
            tokenize_inputs(inputs, key, tokenizer, arguments)
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="preprocess_data.py", description="Turns texts into token files (.bin and .idx).")
    data = parser.add_argument_group("input")
    data.add_argument(
        "--input", required=True, metavar="F[,F...]", help="JSON Lines files or folders of source files; or one corpus folder"
    )
    data.add_argument(
        "--jsonl-keys", nargs="+", default=["text"], metavar="KEY", help="keys of the texts, each a token file (default text)"
    )
    data.add_argument("--num-docs", type=int, help="accepted and ignored: the bar counts bytes, whose total is known")
    vocabulary = parser.add_argument_group("tokenizer")
    vocabulary.add_argument("--tokenizer-type", required=True, choices=list(TOKENIZERS))
    vocabulary.add_argument("--vocab-file", help="vocab.json, tokenizer.json or the SentencePiece model")
    vocabulary.add_argument("--merge-file", help="merges.txt")
    vocabulary.add_argument("--merge-file-reader", choices=list(MERGE_FILE_READERS), default="whole", help="default %(default)s")
    vocabulary.add_argument("--append-eod", action="store_true", help="an end-of-document token after every document")
    vocabulary.add_argument("--ftfy", action="store_true", help="refused: it would rewrite the texts")
    output = parser.add_argument_group("output")
    output.add_argument("--output-prefix", required=True, help="path of the token files without _KEY_document.bin")
    output.add_argument("--dataset-impl", default="mmap", help="only mmap")
    runtime = parser.add_argument_group("runtime")
    runtime.add_argument("--workers", type=int, help="threads that encode; default: one for each core")
    runtime.add_argument("--log-interval", type=int, help="accepted and ignored: the bar moves by itself")
    arguments = parser.parse_args(argv)
    check(arguments)
    return arguments


def check(arguments: argparse.Namespace) -> None:
    problems = []
    if arguments.ftfy:
        problems.append(
            "--ftfy would rewrite texts, so that tokens no longer decode to the file. Mend the texts before, and leave it out."
        )
    if arguments.dataset_impl != "mmap":
        problems.append(f"--dataset-impl {arguments.dataset_impl} is not written any more, only mmap. Leave the option out.")
    if arguments.workers is not None and arguments.workers < 1:
        problems.append(f"--workers ({arguments.workers}) must be at least 1. Leave it out for one thread on each core.")
    if problems:
        raise ConfigError("\n".join(problems))


def tokenize_one_corpus(inputs: list[Path], tokenizer: Tokenizer, arguments: argparse.Namespace) -> None:
    if len(inputs) > 1 or arguments.jsonl_keys != ["text"]:
        raise ConfigError("--input with a corpus folder takes that one alone, and --jsonl-keys text. Run the others apart.")
    prefix = Path(arguments.output_prefix)
    tokenize_corpus(inputs[0], prefix.parent, tokenizer, append_eod=arguments.append_eod, name_prefix=f"{prefix.name}_")


def tokenize_inputs(inputs: list[Path], key: str, tokenizer: Tokenizer, arguments: argparse.Namespace) -> None:
    readers = [open_input(path, key) for path in inputs]
    documents = (document for _, reader in readers for document in reader)
    prefix = f"{arguments.output_prefix}_{key}_document"
    total = sum(num_bytes for num_bytes, _ in readers)
    counts = write_token_file(prefix, documents, tokenizer, append_eod=arguments.append_eod, num_bytes=total)
    if not any(count.documents for count in counts.values()):
        raise DataError(f"{arguments.input} has no document with a token under {key!r}. Name other input, or another key.")


def open_input(path: Path, key: str) -> tuple[int, Iterator[Document]]:
    """The input's size in bytes and its documents."""
    if path.is_file():
        return path.stat().st_size, iter_json_lines(path, key)
    if not path.is_dir():
        raise DataError(f"{path} does not exist. --input takes JSON Lines files and folders, with commas between them.")
    if key != "text":
        raise ConfigError(f"--jsonl-keys {key} is for JSON Lines, but {path} is a folder, whose files have no keys. Leave it out.")
    files = list_files(path)
    for reason, number in sorted(files.left_out.items()):
        log.info("%s: %s %s left out", path, f"{number:,}", reason)
    return files.num_bytes, iter_files(path, files.paths)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
