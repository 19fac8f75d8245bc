"""GPT-NeoX's CharLevelTokenizer: every byte of the UTF-8 text is a token, and its value is the id. There is no vocabulary file.

    CharLevelTokenizer().encode("é\\n")          # [195, 169, 10]

As in GPT-NeoX the vocabulary has 512 ids. 0 ends a document, and 1 is padding. 256 to 511 are never encoded; they decode to the
character with that number. Text with the bytes 0 or 1 is refused. Unlike GPT-NeoX, decoding is exact: a line feed stays a line
feed.
"""

import hashlib
from collections.abc import Sequence

from neox_code.errors import DataError
from neox_code.tokenizer.byte_level import check_ids, encode_utf8
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING
from neox_code.tokenizer.vocabulary_file import CHAR_LEVEL_ENTRIES

VOCAB_SIZE = CHAR_LEVEL_ENTRIES
NAMES = (END_OF_DOCUMENT, PADDING)
"""Names of the ids 0 and 1."""


class CharLevelTokenizer:
    vocab_size = VOCAB_SIZE
    eod_id = 0
    pad_id = 1

    @property
    def infilling_ids(self) -> dict[str, int]:
        return {}

    @property
    def identity(self) -> dict[str, str]:
        return {"tokenizer_type": "CharLevelTokenizer", "sha256": hashlib.sha256(b"CharLevelTokenizer 512").hexdigest()}

    def encode(self, text: str) -> list[int]:
        """Return the bytes of the text. Raise DataError for text with the bytes 0 or 1, and for lone surrogates."""
        data = encode_utf8(text)
        if (special := min(data, default=VOCAB_SIZE)) < len(NAMES):
            raise DataError(
                f"the text contains byte 0x{special:02X}, which is the id of {NAMES[special]} in CharLevelTokenizer. "
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

    def read_token_bytes(self) -> list[bytes]:
        return [data if len(NAMES) <= token_id < 256 else b"" for token_id, data in enumerate(BYTES_OF_ID)]

    def find_last_stable_boundary(self, text: str) -> int:
        return len(text)  # no token is longer than a byte


BYTES_OF_ID = [
    *(name.encode() for name in NAMES),
    *(bytes([byte]) for byte in range(len(NAMES), 256)),
    *(chr(number).encode() for number in range(256, VOCAB_SIZE)),
]
