"""Train a SentencePiece model that decodes source code exactly.

    tokenizer = train_sentencepiece(texts, vocab_size=50_257, output="vocabulary")       # writes vocabulary/code.model

The model has type BPE, no normalization, and a piece for every byte. The special tokens have the ids 0, 1, 2 as in the other
vocabularies, the unknown piece has the id 3, and the bytes follow. The library learns from single lines, so no piece contains a
line end. It needs about twelve times the size of the lines in memory; at most LARGEST_SAMPLE_BYTES are used. The same texts give
the same file.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece

from neox_code.errors import DataError
from neox_code.files import atomic_file
from neox_code.logs import get_logger
from neox_code.tokenizer.merges import run_in_thread
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING, SEPARATOR
from neox_code.tokenizer.sample_file import SampleFile
from neox_code.tokenizer.sentencepiece import SPACE, SPMTokenizer
from neox_code.tokenizer.train_bpe import WHITESPACE_TOKENS, get_sample_path, log_sample

log = get_logger(__name__)

MODEL_FILE = "code.model"
LARGEST_SAMPLE_BYTES = 2**28
LONGEST_LINE = 2**14
"""Maximum length of a line in characters; a longer line is divided."""
SMALLEST_VOCABULARY = 4 + 256
"""Number of the special tokens, the unknown piece and the bytes."""


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, output: str | os.PathLike[str], *, whitespace_tokens: bool = False
) -> SPMTokenizer:
    """Learn a model of `vocab_size` pieces, write OUTPUT/code.model, and return the tokenizer read from it.

    Raise DataError if there is no text, or not enough text for `vocab_size` pieces.
    """
    output = Path(output)
    smallest = SMALLEST_VOCABULARY + (len(WHITESPACE_TOKENS) if whitespace_tokens else 0)
    if vocab_size < smallest:
        raise DataError(
            f"vocab_size ({vocab_size:,}) must be at least {smallest}, for special tokens and bytes, and more for the characters "
            "of the sample. Choose a larger value; common values are 8,192 for a small corpus and 50,257 for a large one."
        )
    with SampleFile(get_sample_path(output), limit_sample(texts)) as sample:
        log_sample(sample, vocab_size)
        run_in_thread(lambda: learn_model(sample, vocab_size, output, whitespace_tokens))
    return SPMTokenizer.from_file(output / MODEL_FILE)


def limit_sample(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts up to LARGEST_SAMPLE_BYTES in total; log a warning if there are more."""
    num_bytes = 0
    for text in texts:
        num_bytes += len(text.encode("utf-8", "surrogatepass"))
        if num_bytes > LARGEST_SAMPLE_BYTES:
            log.warning("vocabulary | using only the first %d MiB of the sample", LARGEST_SAMPLE_BYTES // 2**20)
            return
        yield text


def learn_model(sample: SampleFile, vocab_size: int, output: Path, whitespace_tokens: bool) -> None:
    """Write the model. Raise DataError if SentencePiece cannot learn `vocab_size` pieces from the sample."""
    try:
        with atomic_file(output / MODEL_FILE, "wb") as model:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=read_lines(sample),
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
        raise DataError(f"SentencePiece cannot learn {vocab_size:,} pieces from the sample: {reason}. {remedy}.") from None


def read_lines(sample: SampleFile) -> Iterator[str]:
    for text in sample.texts():
        for line in text.split("\n"):
            yield from (line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE))
