"""A Hugging Face tokenizer.json with a byte-level vocabulary: our own, Pythia's, StarCoder's.

    tokenizer = HFTokenizer.from_file("tokenizer.json")

Only vocabularies of bytes give source code back as it was, so others are refused. Truncation, padding and the special tokens
that the file would add around a text are switched off. A normalizer (Pythia's NFC) is the file's own choice and is kept.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer as Backend

from neox_code.errors import DataError
from neox_code.files import read_json
from neox_code.tokenizer.byte_level import ByteLevelTokenizer


class HFTokenizer(ByteLevelTokenizer):
    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Reads tokenizer.json. Raises DataError for a file that is missing, malformed, or not of a byte-level vocabulary."""
        description = read_json(path)
        if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
            raise DataError(f"{path} is not a tokenizer.json: it has no `model`. Check the path.")
        if not is_byte_level(description.get("decoder")):
            raise DataError(
                f"{path} is not of a byte-level vocabulary (decoder ByteLevel), so that text would not come back exactly. "
                "Use a byte-level one, or the SentencePiece model with tokenizer_type SPMTokenizer."
            )
        data = Path(path).read_bytes()
        try:
            backend = Backend.from_buffer(data)
        except Exception as error:  # the tokenizers library raises bare Exceptions
            raise DataError(
                f"{path} cannot be read by tokenizers: {error}. Write it again with the version installed here."
            ) from None
        identity = {"tokenizer_type": "HFTokenizer", "vocab_file": str(path), "sha256": hashlib.sha256(data).hexdigest()}
        return cls(backend, identity)


def is_byte_level(decoder: Any) -> bool:
    """Whether a `decoder` entry is ByteLevel, alone or in a sequence.

    >>> is_byte_level({"type": "Sequence", "decoders": [{"type": "ByteLevel"}]})
    True
    """
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") == "ByteLevel" or any(is_byte_level(part) for part in decoder.get("decoders", ()))
