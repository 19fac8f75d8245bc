"""Learns a vocabulary from a corpus folder's training documents, a dataset, or a folder of source files.

    python tools/train_tokenizer.py corpus --vocab-size 50257 --fraction 0.05 --output vocabulary

writes code-vocab.json, code-merges.txt and tokenizer.json into the output folder; with --whitespace-tokens tokenizer.json alone,
with --type sentencepiece code.model. Which documents are read follows from --seed and their content, not from their order.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from neox_code.corpus.shards import Document, is_corpus, iter_documents
from neox_code.corpus.tokens.text_pieces import MOST_NAMED, Rejected, Text, pieces_of, rejection
from neox_code.corpus.tokens.tokenize_shards import kept_bytes
from neox_code.errors import ConfigError, run_command
from neox_code.logs import get_logger, progress
from neox_code.tokenizer.train import TOKENIZER_FILE, sample_documents, train_bpe
from neox_code.tokenizer.train_sentencepiece import train_sentencepiece

log = get_logger(__name__)

SURROGATE = re.compile("[\ud800-\udfff]")

TRAINERS = {"bpe": train_bpe, "sentencepiece": train_sentencepiece}


def main(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    documents = sample_documents(
        read_documents(arguments.folder, arguments.skip_unencodable), fraction=arguments.fraction, seed=arguments.seed
    )
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
        "folder",
        type=Path,
        metavar="INPUT",
        help="corpus (of its documents those of train), or an input of preprocess_data.py",
    )
    parser.add_argument("--vocab-size", type=int, default=50_257, help="entries, special tokens included (default %(default)s)")
    parser.add_argument("--fraction", type=float, default=0.05, help="share of the documents that is read (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the vocabulary's files")
    parser.add_argument("--type", choices=list(TRAINERS), default="bpe", help="byte-level BPE, or a SentencePiece model")
    parser.add_argument(
        "--whitespace-tokens", action="store_true", help="two tabs and two, four, eight spaces as the last tokens, taken first"
    )
    parser.add_argument("--skip-unencodable", action="store_true", help="count and leave out documents that cannot be read")
    parser.add_argument("--seed", type=int, default=1234, help="seed of the sample (default %(default)s)")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.fraction <= 1:
        raise ConfigError(f"--fraction ({arguments.fraction}) must be above 0 and at most 1. Give 1 to read every document.")
    return arguments


def read_documents(folder: Path, skip_unencodable: bool) -> Iterator[Document]:
    """Yield all documents of a corpus or of another input of tools/preprocess_data.py, with a progress bar."""
    if is_corpus(folder):
        documents, num_bytes = iter_documents(folder, "train"), sum(kept_bytes(folder, "train").values())
    else:
        pieces = pieces_of(folder)
        texts = (text for piece in pieces for text in piece.texts())
        documents, num_bytes = documents_of(texts, skip_unencodable), sum(piece.num_bytes for piece in pieces)
    with progress("reading", total=num_bytes, unit="B") as advance:
        for document in documents:
            yield document
            advance(document.num_bytes)


def documents_of(texts: Iterable[Text | Rejected], skip_unencodable: bool) -> Iterator[Document]:
    """Yield the texts as documents. Raises DataError for one that cannot be read, unless such are to be counted and left out."""
    rejected = 0
    for text in texts:
        if isinstance(text, Text) and (surrogate := SURROGATE.search(text.text)):
            problem = f"holds a lone surrogate, U+{ord(surrogate[0]):04X}, which is no character"
            text = Rejected(text.place, problem, "Remove it.", text.num_bytes)
        if isinstance(text, Rejected):
            if not skip_unencodable:
                raise rejection(text)
            rejected += 1
            if rejected <= MOST_NAMED:
                log.warning("left out: %s %s", text.place, text.problem)
            continue
        data = text.text.encode()
        yield Document(text.text, text.language, "", text.place, hashlib.sha256(data).hexdigest(), len(data), split="train")
    if rejected:
        log.warning("%s documents left out that cannot be read (--skip-unencodable)", f"{rejected:,}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
