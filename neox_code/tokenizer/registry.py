"""Build the configured tokenizer; the table TOKENIZERS has the function for each tokenizer type.

tokenizer = build_tokenizer(config.data)
"""

from collections.abc import Callable
from pathlib import Path

from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFGPT2Tokenizer, HFTokenizer
from neox_code.tokenizer.protocol import Tokenizer, TokenizerSection
from neox_code.tokenizer.sentencepiece import SPMTokenizer
from neox_code.tokenizer.tiktoken_encoding import TiktokenTokenizer
from neox_code.tokenizer.vocabulary_file import has_version_line

log = get_logger(__name__)

PROBE = "\tif café:\n    cafe\u0301 += 1  # \uff11\u3000½\n"
"""Text for a test: normalization, an added first space or joined spaces would change it."""


def build_tokenizer(section: TokenizerSection) -> Tokenizer:
    """Return the configured tokenizer. Raise DataError for a file that is not configured, missing or malformed."""
    tokenizer = TOKENIZERS[section.tokenizer_type](section)
    if not is_lossless(tokenizer):
        log.warning("%s does not decode every text exactly (it normalizes text or joins spaces).", section.vocab_file)
    return tokenizer


def is_lossless(tokenizer: Tokenizer) -> bool:
    """Return False if encoding and decoding change PROBE. Return True also if the tokenizer refuses PROBE."""
    try:
        return tokenizer.decode(tokenizer.encode(PROBE)) == PROBE
    except DataError:
        return True


def build_gpt2(section: TokenizerSection) -> Tokenizer:
    vocab_file, merge_file = require_file(section, "vocab_file"), require_file(section, "merge_file")
    if section.merge_file_reader == "whole" and not has_version_line(merge_file):
        log.info(
            "%s has no #version line; all its merges are used. GPT-NeoX drops the first one: for a model that GPT-NeoX trained, "
            "such as PolyCoder, set merge_file_reader to gpt-neox",
            merge_file,
        )
    return GPT2Tokenizer.from_files(vocab_file, merge_file, section.merge_file_reader)


def build_huggingface(section: TokenizerSection) -> Tokenizer:
    return HFTokenizer.from_file(require_file(section, "vocab_file"))


def build_huggingface_gpt2(section: TokenizerSection) -> Tokenizer:
    return HFGPT2Tokenizer.from_path(require_file(section, "vocab_file", or_folder=True))


def build_char_level(_: TokenizerSection) -> Tokenizer:
    return CharLevelTokenizer()


def build_tiktoken(section: TokenizerSection) -> Tokenizer:
    if section.vocab_file is None:
        raise DataError(format_unset(section, "vocab_file"))
    return TiktokenTokenizer.from_encoding(section.vocab_file)


def build_sentencepiece(section: TokenizerSection) -> Tokenizer:
    return SPMTokenizer.from_file(require_file(section, "vocab_file"))


TOKENIZERS: dict[str, Callable[[TokenizerSection], Tokenizer]] = {
    "GPT2BPETokenizer": build_gpt2,
    "HFTokenizer": build_huggingface,
    "HFGPT2Tokenizer": build_huggingface_gpt2,
    "SPMTokenizer": build_sentencepiece,
    "CharLevelTokenizer": build_char_level,
    "TiktokenTokenizer": build_tiktoken,
}


def format_unset(section: TokenizerSection, key: str) -> str:
    return f"{key} is not set, but tokenizer_type {section.tokenizer_type} needs it. Set it to that file of the vocabulary."


def require_file(section: TokenizerSection, key: str, or_folder: bool = False) -> Path:
    """Return the path in the section's `key`. Raise DataError if it is not set or does not exist."""
    value: str | None = getattr(section, key)
    if value is None:
        raise DataError(format_unset(section, key))
    if not Path(value).is_file() and not (or_folder and Path(value).is_dir()):
        raise DataError(f"{key} ({value}) is not a file. Set it to the file that the model or the token files were made with.")
    return Path(value)
