"""A Hugging Face tokenizer.json with a byte-level vocabulary: our own, Pythia's, StarCoder's.

    tokenizer = HFTokenizer.from_file("tokenizer.json")
    tokenizer = HFGPT2Tokenizer.from_path("gpt2")              # a folder of GPT-2's files

Only byte-level vocabularies decode source code exactly, so other vocabularies are refused. The file's settings for truncation,
padding and special tokens around a text are disabled. A normalizer of the file (Pythia's NFC) is applied.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from neox_code.errors import DataError
from neox_code.files import read_bounded, read_json
from neox_code.tokenizer.byte_level import ByteLevelTokenizer
from neox_code.tokenizer.gpt2 import build_byte_level_backend, read_merges, read_vocabulary
from neox_code.tokenizer.protocol import PADDING
from neox_code.tokenizer.vocabulary_file import GPT2_FILES, TOKENIZER_JSON


class HFGPT2Tokenizer(ByteLevelTokenizer):
    """GPT-NeoX's HFGPT2Tokenizer: GPT-2's files in the layout of transformers, with `<|padding|>` added as the last token."""

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Self:
        """Read a tokenizer.json, or a folder with one or with vocab.json and merges.txt. Nothing is downloaded."""
        path = Path(path)
        if (path / TOKENIZER_JSON).is_file():
            path = path / TOKENIZER_JSON
        if path.is_dir():
            vocab_file, merge_file = (path / name for name in GPT2_FILES)
            vocabulary = read_vocabulary(vocab_file)
            backend = build_byte_level_backend(vocabulary, read_merges(merge_file, "whole", vocabulary))
        else:
            backend = read_byte_level_json(path)
        if backend.token_to_id(PADDING) is None:
            backend.add_special_tokens([AddedToken(PADDING, special=True, normalized=False)])
        digest = hashlib.sha256(backend.to_str().encode()).hexdigest()
        return cls(backend, {"tokenizer_type": "HFGPT2Tokenizer", "vocab_file": str(path), "sha256": digest})


class HFTokenizer(ByteLevelTokenizer):
    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a tokenizer.json. Raise DataError for a file that is missing, malformed, or not byte-level."""
        backend = read_byte_level_json(path)
        digest = hashlib.sha256(read_bounded(path)).hexdigest()
        return cls(backend, {"tokenizer_type": "HFTokenizer", "vocab_file": str(path), "sha256": digest})


def read_byte_level_json(path: str | os.PathLike[str]) -> Backend:
    """Read a tokenizer.json. Raise DataError for a file that is missing, malformed, or not byte-level."""
    description = read_json(path)
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        raise DataError(f"{path} is not a tokenizer.json: it has no `model`. Check the path.")
    if not is_byte_level(description.get("decoder")):
        raise DataError(
            f"{path} has no byte-level vocabulary (decoder ByteLevel), so it would not decode text exactly. "
            "Use a byte-level vocabulary, or the SentencePiece model with tokenizer_type SPMTokenizer."
        )
    try:
        return Backend.from_buffer(read_bounded(path))
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise DataError(f"{path} cannot be read by the tokenizers library: {error}. Write it with the installed version.") from None


def is_byte_level(decoder: Any) -> bool:
    """Return True if a `decoder` entry is ByteLevel, alone or in a sequence.

    >>> is_byte_level({"type": "Sequence", "decoders": [{"type": "ByteLevel"}]})
    True
    """
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") == "ByteLevel" or any(is_byte_level(part) for part in decoder.get("decoders", ()))
