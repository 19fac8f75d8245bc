"""Learns a vocabulary from a corpus folder's training documents, or from a folder of source files.

    python tools/train_tokenizer.py corpus --vocab-size 50257 --fraction 0.05 --output vocabulary

writes code-vocab.json, code-merges.txt and tokenizer.json into the output folder; with --whitespace-tokens tokenizer.json alone,
with --type sentencepiece code.model. Which documents are read follows from --seed and their content, not from their order.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from neox_code.corpus.raw_documents import iter_files, list_files
from neox_code.corpus.shards import Document, is_corpus, iter_documents
from neox_code.corpus.tokenize_shards import kept_bytes
from neox_code.errors import ConfigError, DataError, run_command
from neox_code.logs import get_logger, progress
from neox_code.tokenizer.train import TOKENIZER_FILE, sample_documents, train_bpe
from neox_code.tokenizer.train_sentencepiece import train_sentencepiece

log = get_logger(__name__)

TRAINERS = {"bpe": train_bpe, "sentencepiece": train_sentencepiece}


def main(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    documents = sample_documents(read_documents(arguments.folder), fraction=arguments.fraction, seed=arguments.seed)
    texts = (document.text for document in documents)
    train = TRAINERS[arguments.type]
    if (arguments.output / TOKENIZER_FILE).exists():
        log.warning("%s holds a vocabulary that is replaced: what was made with it no longer fits it", arguments.output)
    tokenizer = train(texts, arguments.vocab_size, arguments.output, whitespace_tokens=arguments.whitespace_tokens)
    log.info("%s: %s entries", arguments.output, f"{tokenizer.vocab_size:,}")
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train_tokenizer.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="corpus (its training documents are read), or a folder of source files"
    )
    parser.add_argument("--vocab-size", type=int, default=50_257, help="entries, special tokens included (default %(default)s)")
    parser.add_argument("--fraction", type=float, default=0.05, help="share of the documents that is read (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the vocabulary's files")
    parser.add_argument("--type", choices=list(TRAINERS), default="bpe", help="byte-level BPE, or a SentencePiece model")
    parser.add_argument(
        "--whitespace-tokens", action="store_true", help="two tabs and two, four, eight spaces as the last tokens, taken first"
    )
    parser.add_argument("--seed", type=int, default=1234, help="seed of the sample (default %(default)s)")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.fraction <= 1:
        raise ConfigError(f"--fraction ({arguments.fraction}) must be above 0 and at most 1. Give 1 to read every document.")
    return arguments


def read_documents(folder: Path) -> Iterator[Document]:
    """All documents of the folder, with a progress bar."""
    if is_corpus(folder):
        documents, num_bytes = iter_documents(folder, "train"), sum(kept_bytes(folder, "train").values())
    elif folder.is_dir():
        files = list_files(folder)
        documents, num_bytes = iter_files(folder, files.paths), files.num_bytes
    else:
        raise DataError(f"{folder} is not a folder. Name a corpus of tools/build_corpus.py, or a folder of source files.")
    with progress("reading", total=num_bytes, unit="B") as advance:
        for document in documents:
            yield document
            advance(document.num_bytes)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
