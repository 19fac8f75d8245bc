"""Interface of every tokenizer. `encode` adds, drops and changes nothing, so that `decode` returns the same text."""

from collections.abc import Sequence
from typing import Protocol

from neox_code.errors import DataError

END_OF_DOCUMENT = "<|endoftext|>"
PADDING = "<|padding|>"
SEPARATOR = "<|separator|>"


class TokenizerSection(Protocol):
    """The configuration keys that determine a tokenizer. neox_code.config.data.DataConfig has these keys."""

    @property
    def tokenizer_type(self) -> str: ...

    @property
    def vocab_file(self) -> str | None: ...

    @property
    def merge_file(self) -> str | None: ...

    @property
    def merge_file_reader(self) -> str: ...


class Tokenizer(Protocol):
    """Conversion of text to token ids and back.

    `decode(encode(text)) == text` for every text that the vocabulary can represent; other text raises DataError.
    The name of a special token inside a text is ordinary text: `encode` never returns the id of a special token.
    """

    @property
    def vocab_size(self) -> int:
        """Number of ids, including special tokens, without the padding for tensor parallelism."""
        ...

    @property
    def eod_id(self) -> int:
        """Id of the end-of-document token."""
        ...

    @property
    def pad_id(self) -> int:
        """Id of the padding token, which fills a batch; `eod_id` if the vocabulary has no padding token."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, as `encode` does, with the threads of the library."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids. Invalid UTF-8 (a divided character) becomes U+FFFD, a special token its name."""
        ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the exact bytes of the ids."""
        ...

    @property
    def infilling_ids(self) -> dict[str, int]:
        """Part of an infilling prompt (a name in tokenizer.infilling.PARTS) -> id of the token that marks this part."""
        ...

    def read_token_bytes(self) -> list[bytes]:
        """Return the bytes of every id, including a space before a word. Ids that no encoded text contains have b""."""
        ...

    def find_last_stable_boundary(self, text: str) -> int:
        """Return the last index in the text that no token crosses, whatever text follows. A token begins there."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """Tokenizer type, files and a hash of everything that determines the ids; stored with token files and checkpoints."""
        ...


def find_unused_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids below `vocab_size` that stand for no token and cannot be decoded, as some encodings of tiktoken have them."""

    def can_decode(ids: Sequence[int]) -> bool:
        try:
            tokenizer.decode_bytes(ids)
        except DataError:
            return False
        return True

    every = range(tokenizer.vocab_size)
    return [] if can_decode(every) else [token_id for token_id in every if not can_decode([token_id])]
