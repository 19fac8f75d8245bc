"""Learns a SentencePiece model that gives source code back as it was.

    tokenizer = train_sentencepiece(texts, vocab_size=50_257, output="vocabulary")       # writes vocabulary/code.model

Of type BPE, without normalization, with a piece for each byte that no other piece holds. The special tokens have the ids 0, 1, 2
as in the other vocabularies, the unknown piece 3, then come the bytes. Lines are learnt from one by one: no piece reaches over a
line's end. The library holds all lines in memory, some twelve times their size: at most LARGEST_SAMPLE_BYTES are taken. The same
texts give the same bytes.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece

from neox_code.errors import DataError
from neox_code.files import atomic_file
from neox_code.logs import get_logger
from neox_code.tokenizer.merges import in_a_thread
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING, SEPARATOR
from neox_code.tokenizer.sample_file import SampleFile
from neox_code.tokenizer.sentencepiece import SPACE, SPMTokenizer
from neox_code.tokenizer.train import WHITESPACE_TOKENS, announce, sample_path

log = get_logger(__name__)

MODEL_FILE = "code.model"
LARGEST_SAMPLE_BYTES = 2**28
LONGEST_LINE = 2**14
"""In characters; a longer line is learnt from in parts."""
SMALLEST_VOCABULARY = 4 + 256
"""The special tokens, the unknown piece and the bytes."""


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, output: str | os.PathLike[str], *, whitespace_tokens: bool = False
) -> SPMTokenizer:
    """Learns a model of `vocab_size` pieces, writes OUTPUT/code.model, and returns it as read back.

    Raises DataError where there is no text, or not enough for so many pieces.
    """
    output = Path(output)
    smallest = SMALLEST_VOCABULARY + (len(WHITESPACE_TOKENS) if whitespace_tokens else 0)
    if vocab_size < smallest:
        raise DataError(
            f"vocab_size ({vocab_size:,}) must be at least {smallest}, for special tokens and bytes, and more for the characters "
            "of the sample. Choose a larger one; usual are 8,192 for a small corpus and 50,257 for a large one."
        )
    with SampleFile(sample_path(output), first_bytes(texts)) as sample:
        announce(sample, vocab_size)
        in_a_thread(lambda: learn(sample, vocab_size, output, whitespace_tokens))
    return SPMTokenizer.from_file(output / MODEL_FILE)


def first_bytes(texts: Iterable[str]) -> Iterator[str]:
    num_bytes = 0
    for text in texts:
        num_bytes += len(text.encode("utf-8", "surrogatepass"))
        if num_bytes > LARGEST_SAMPLE_BYTES:
            log.warning("vocabulary | only the first %d MiB of the sample are learnt from", LARGEST_SAMPLE_BYTES // 2**20)
            return
        yield text


def learn(sample: SampleFile, vocab_size: int, output: Path, whitespace_tokens: bool) -> None:
    try:
        with atomic_file(output / MODEL_FILE, "wb") as model:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines(sample),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                byte_fallback=True,
                allow_whitespace_only_pieces=True,
                max_sentence_length=4 * LONGEST_LINE,
                eos_id=0,
                eos_piece=END_OF_DOCUMENT,
                pad_id=1,
                pad_piece=PADDING,
                bos_id=2,
                bos_piece=SEPARATOR,
                unk_id=3,
                user_defined_symbols=[token.replace(" ", SPACE) for token in WHITESPACE_TOKENS] if whitespace_tokens else [],
                minloglevel=2,
            )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2].rstrip(". ")
        remedy = "Give a larger --fraction or a smaller --vocab-size" if "too high" in reason else "Choose a larger --vocab-size"
        raise DataError(f"SentencePiece learns no {vocab_size:,} pieces of the sample: {reason}. {remedy}.") from None


def lines(sample: SampleFile) -> Iterator[str]:
    for text in sample.texts():
        for line in text.split("\n"):
            yield from (line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE))
