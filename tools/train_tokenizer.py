"""Train a tokenizer on a corpus folder's training documents, a dataset, or a folder of source files.

    python tools/train_tokenizer.py corpus --vocab-size 50257 --fraction 0.05 --output vocabulary

The command above writes code-vocab.json, code-merges.txt and tokenizer.json into the output folder. With --whitespace-tokens, it
writes only tokenizer.json; with --type sentencepiece, only code.model. --seed and the content of the documents determine which
documents are read; their order does not matter.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import Parser, add_json_option, parse_positive_integer, parse_positive_number, report_figures
from neox_code.corpus.shards import Document, is_corpus, iter_documents
from neox_code.corpus.tokens.input_slices import MAX_LISTED, Rejected, Text, make_rejection_error, slice_input
from neox_code.corpus.tokens.tokenize_shards import count_kept_bytes
from neox_code.errors import ConfigError, run_command
from neox_code.logs import format_plural, get_logger, progress
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.train_bpe import TOKENIZER_FILE, sample_documents, train_bpe
from neox_code.tokenizer.train_sentencepiece import train_sentencepiece

log = get_logger(__name__)

SURROGATE = re.compile("[\ud800-\udfff]")

TRAINERS: Mapping[str, Callable[..., Tokenizer]] = {"bpe": train_bpe, "sentencepiece": train_sentencepiece}


def main(argv: Sequence[str]) -> int:
    """Train the vocabulary and write its files; return the exit status."""
    arguments = parse_arguments(argv)
    documents = sample_documents(
        read_documents(arguments.folder, arguments.skip_unencodable), fraction=arguments.fraction, seed=arguments.seed
    )
    texts = (document.text for document in documents)
    train = TRAINERS[arguments.type]
    if (arguments.output / TOKENIZER_FILE).exists():
        log.warning(
            "%s already has a vocabulary, which is replaced. Token files and models made with the old one do not fit the new one.",
            arguments.output,
        )
    with report_figures(arguments.json) as figures:
        tokenizer = train(texts, arguments.vocab_size, arguments.output, whitespace_tokens=arguments.whitespace_tokens)
        log.info("%s: %s entries", arguments.output, f"{tokenizer.vocab_size:,}")
        figures |= {"output": arguments.output, "type": arguments.type, "vocab_size": tokenizer.vocab_size}
    return 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser(__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        metavar="INPUT",
        help="corpus, whose train split is read, or an input of preprocess_data.py",
    )
    parser.add_argument(
        "--vocab-size", type=parse_positive_integer, default=50_257, help="entries, special tokens included (default %(default)s)"
    )
    parser.add_argument(
        "--fraction", type=parse_positive_number, default=0.05, help="fraction of the documents that is read (default %(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the vocabulary's files")
    parser.add_argument("--type", choices=list(TRAINERS), default="bpe", help="byte-level BPE, or a SentencePiece model")
    parser.add_argument(
        "--whitespace-tokens",
        action="store_true",
        help="add tokens of 2 tabs and of 2, 4, 8 spaces, matched first",
    )
    parser.add_argument("--skip-unencodable", action="store_true", help="omit and count documents that cannot be read")
    parser.add_argument("--seed", type=int, default=1234, help="seed of the sample (default %(default)s)")
    add_json_option(parser)
    arguments = parser.parse_args(argv)
    if arguments.fraction > 1:
        raise ConfigError(f"--fraction ({arguments.fraction}) must be at most 1. Use 1 to read every document.")
    return arguments


def read_documents(folder: Path, skip_unencodable: bool) -> Iterator[Document]:
    """Yield all documents of a corpus, or of another input of tools/preprocess_data.py. Show a progress bar in bytes.

    Raise DataError for a text that cannot be read; if `skip_unencodable` is true, leave it out and count it.
    """
    if is_corpus(folder):
        with progress("reading", total=sum(count_kept_bytes(folder, "train").values()), unit="B") as advance:
            for document in iter_documents(folder, "train"):
                yield document
                advance(document.num_bytes)
        return
    slices, rejected = slice_input(folder), 0
    with progress("reading", total=sum(input_slice.num_bytes for input_slice in slices), unit="B") as advance:
        for text in (text for input_slice in slices for text in input_slice.read_texts()):
            found = make_document(text)
            if isinstance(found, Document):
                yield found
            elif not skip_unencodable:
                raise make_rejection_error(found)
            else:
                rejected += 1
                if rejected <= MAX_LISTED:
                    log.warning("omitted: %s %s", found.place, found.problem)
            advance(text.num_bytes)
    if rejected:
        log.warning("omitted %s without readable text (--skip-unencodable)", format_plural(rejected, "document"))


def make_document(text: Text | Rejected) -> Document | Rejected:
    if isinstance(text, Rejected):
        return text
    if surrogate := SURROGATE.search(text.text):
        problem = f"contains a lone surrogate, U+{ord(surrogate[0]):04X}, which is no character"
        return Rejected(text.place, problem, "Remove it.", text.num_bytes)
    data = text.text.encode()
    return Document(text.text, text.language, "", text.place, hashlib.sha256(data).hexdigest(), len(data), split="train")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
