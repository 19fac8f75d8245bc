"""What every tokenizer can do. Text goes in whole and comes out whole: encode never adds, drops or changes anything."""

from collections.abc import Sequence
from typing import Protocol

END_OF_DOCUMENT = "<|endoftext|>"
PADDING = "<|padding|>"
SEPARATOR = "<|separator|>"


class Tokenizer(Protocol):
    """Text to token ids and back.

    `decode(encode(text)) == text` for every text the vocabulary can hold; text it cannot hold is a DataError, never dropped.
    A special token's name inside the text is text: encode never yields a special token's id.
    """

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included, padding for tensor parallelism not."""
        ...

    @property
    def eod_id(self) -> int:
        """Id of the end-of-document token."""
        ...

    @property
    def pad_id(self) -> int:
        """Id that fills a batch, never a part of a text; differs from `eod_id` wherever the vocabulary has one."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The same as `encode` for each, by as many threads as the library has."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids. Bytes that are not UTF-8 (a character cut in two) become U+FFFD; special tokens their names."""
        ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of the ids."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """Type, files and a hash of what decides the ids: written beside what was made with this tokenizer."""
        ...
