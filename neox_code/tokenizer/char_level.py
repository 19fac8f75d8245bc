"""Every byte a token, as GPT-NeoX's CharLevelTokenizer: no vocabulary file.

    CharLevelTokenizer().encode("é\\n")          # [195, 169, 10]

The id is the byte in UTF-8. As there the vocabulary has 512 ids, 0 ends a document and 1 is padding, so that text with the bytes 0
or 1 cannot be held; 256 to 511 are never text, and decode to the character of that number. Unlike there, decoding is exact: a line
feed does not become a space.
"""

import hashlib
from collections.abc import Sequence

from neox_code.errors import DataError
from neox_code.tokenizer.byte_level import check_ids, utf8
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING
from neox_code.tokenizer.vocabulary_file import CHARACTERS

VOCAB_SIZE = CHARACTERS
NAMES = (END_OF_DOCUMENT, PADDING)
"""Of the ids 0 and 1."""


class CharLevelTokenizer:
    vocab_size = VOCAB_SIZE
    eod_id = 0
    pad_id = 1

    @property
    def identity(self) -> dict[str, str]:
        return {"tokenizer_type": "CharLevelTokenizer", "sha256": hashlib.sha256(b"CharLevelTokenizer 512").hexdigest()}

    def encode(self, text: str) -> list[int]:
        """Raises DataError for text with the bytes 0 or 1, and for lone surrogates."""
        data = utf8(text)
        if (special := min(data, default=VOCAB_SIZE)) < len(NAMES):
            raise DataError(
                f"the text holds byte 0x{special:02X}, which is the id of {NAMES[special]} in CharLevelTokenizer. "
                "Remove it from the text, or use another tokenizer_type."
            )
        return list(data)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        check_ids(ids, VOCAB_SIZE, "CharLevelTokenizer")
        return b"".join(map(BYTES_OF_ID.__getitem__, ids))


BYTES_OF_ID = [
    *(name.encode() for name in NAMES),
    *(bytes([byte]) for byte in range(len(NAMES), 256)),
    *(chr(number).encode() for number in range(256, VOCAB_SIZE)),
]
