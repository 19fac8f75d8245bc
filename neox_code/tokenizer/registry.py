"""From the keys of a configuration to a tokenizer: one table, TOKENIZERS.

tokenizer = build_tokenizer(config.data)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.gpt2 import GPT2Tokenizer, has_version_line
from neox_code.tokenizer.huggingface import GPT2_FILES, TOKENIZER_JSON, HFGPT2Tokenizer, HFTokenizer
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.sentencepiece import SPMTokenizer
from neox_code.tokenizer.tiktoken_encoding import TiktokenTokenizer

log = get_logger(__name__)

PROBE = "\tif café:\n    cafe\u0301 += 1  # \uff11\u3000½\n"
"""A text that normalization, a prefix space or the collapsing of spaces would change."""


class TokenizerSection(Protocol):
    """The keys that decide the tokenizer; neox_code.config.data.DataConfig has them."""

    @property
    def tokenizer_type(self) -> str: ...

    @property
    def vocab_file(self) -> str | None: ...

    @property
    def merge_file(self) -> str | None: ...

    @property
    def merge_file_reader(self) -> str: ...


def build_tokenizer(section: TokenizerSection) -> Tokenizer:
    """The tokenizer that the section names. Raises DataError for a file that is not named, missing or malformed."""
    tokenizer = TOKENIZERS[section.tokenizer_type](section)
    if not gives_text_back(tokenizer):
        log.warning("%s does not give every text back as it was (a normalizer, or spaces joined).", section.vocab_file)
    return tokenizer


def gives_text_back(tokenizer: Tokenizer) -> bool:
    """False for a tokenizer that changes PROBE; one that refuses it changes nothing."""
    try:
        return tokenizer.decode(tokenizer.encode(PROBE)) == PROBE
    except DataError:
        return True


def build_gpt2(section: TokenizerSection) -> Tokenizer:
    vocab_file, merge_file = named_file(section, "vocab_file"), named_file(section, "merge_file")
    if section.merge_file_reader == "whole" and not has_version_line(merge_file):
        log.info(
            "%s has no #version line, and is read whole. GPT-NeoX leaves out its first merge: for a model that GPT-NeoX trained, "
            "such as PolyCoder, set merge_file_reader to gpt-neox",
            merge_file,
        )
    return GPT2Tokenizer.from_files(vocab_file, merge_file, section.merge_file_reader)


def build_huggingface(section: TokenizerSection) -> Tokenizer:
    return HFTokenizer.from_file(named_file(section, "vocab_file"))


def build_huggingface_gpt2(section: TokenizerSection) -> Tokenizer:
    return HFGPT2Tokenizer.from_path(named_file(section, "vocab_file", or_folder=True))


def build_char_level(_: TokenizerSection) -> Tokenizer:
    return CharLevelTokenizer()


def build_tiktoken(section: TokenizerSection) -> Tokenizer:
    if section.vocab_file is None:
        raise DataError(not_set(section, "vocab_file"))
    return TiktokenTokenizer.from_encoding(section.vocab_file)


def build_sentencepiece(section: TokenizerSection) -> Tokenizer:
    return SPMTokenizer.from_file(named_file(section, "vocab_file"))


TOKENIZERS: dict[str, Callable[[TokenizerSection], Tokenizer]] = {
    "GPT2BPETokenizer": build_gpt2,
    "HFTokenizer": build_huggingface,
    "HFGPT2Tokenizer": build_huggingface_gpt2,
    "SPMTokenizer": build_sentencepiece,
    "CharLevelTokenizer": build_char_level,
    "TiktokenTokenizer": build_tiktoken,
}


def vocabulary_files(section: TokenizerSection) -> dict[str, Path]:
    """Return the files that the section's tokenizer is read from, by names of their own; none for an encoding's name."""
    if section.tokenizer_type == "CharLevelTokenizer" or section.vocab_file is None:
        return {}
    path = Path(section.vocab_file)
    paths = [path / name for name in (TOKENIZER_JSON, *GPT2_FILES)] if path.is_dir() else [path]
    files = {path.name: path for path in paths if path.is_file()}
    if section.tokenizer_type == "GPT2BPETokenizer" and section.merge_file:
        merges = Path(section.merge_file)
        files[merges.name if merges.name not in files else f"merges-{merges.name}"] = merges
    return files


def not_set(section: TokenizerSection, key: str) -> str:
    return f"{key} is not set, but tokenizer_type {section.tokenizer_type} needs it. Set it to that file of the vocabulary."


def named_file(section: TokenizerSection, key: str, or_folder: bool = False) -> Path:
    """The file under a key of the section. Raises DataError where there is none."""
    value: str | None = getattr(section, key)
    if value is None:
        raise DataError(not_set(section, key))
    if not Path(value).is_file() and not (or_folder and Path(value).is_dir()):
        raise DataError(
            f"{key} ({value}) is not a file. Set it to the one that the model or the token files were made with; "
            "for new token files tools/train_tokenizer.py makes one."
        )
    return Path(value)
