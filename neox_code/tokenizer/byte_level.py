"""Tokenizers in which every token is a sequence of bytes, as in GPT-2's vocabularies.

A byte-level vocabulary writes each byte as a printable character. The 188 printable bytes of Latin-1 are written as themselves; the
other 68 bytes are written, in order, as U+0100, U+0101, ... So a space is `Ġ` and a line feed `Ċ`.

    >>> convert_token_to_bytes("Ġdef"), convert_token_to_bytes("Ċ")
    (b' def', b'\\n')

`ByteLevelTokenizer` implements neox_code.tokenizer.protocol.Tokenizer for such a vocabulary; neox_code.tokenizer.gpt2 and
neox_code.tokenizer.huggingface read the files. The tokenizers library encodes. A table in this module decodes all ids exactly.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from neox_code.errors import DataError
from neox_code.tokenizer.infilling import find_infilling_ids
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING, SEPARATOR

SPECIAL_TOKENS = (END_OF_DOCUMENT, PADDING, SEPARATOR)
"""The special tokens in the order of their ids (0, 1, 2) in a vocabulary that train_bpe writes."""

PRINTABLE_BYTES = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
OTHER_BYTES = tuple(sorted(set(range(256)) - set(PRINTABLE_BYTES)))
CHARACTER_OF_BYTE = {byte: chr(byte) for byte in PRINTABLE_BYTES} | {byte: chr(256 + n) for n, byte in enumerate(OTHER_BYTES)}
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}

BYTES_OF_UTF8 = frozenset(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}
"""The bytes that occur in UTF-8; the other 13 occur in no text."""


def convert_token_to_bytes(token: str) -> bytes:
    """Return the bytes of a token of a byte-level vocabulary; a token with a character outside the alphabet is plain text."""
    try:
        return bytes([BYTE_OF_CHARACTER[character] for character in token])
    except KeyError:
        return token.encode("utf-8")


class ByteLevelTokenizer:
    """Tokenizer with a byte-level vocabulary of the tokenizers library.

    `backend` encodes; `identity` describes the files (`identity["vocab_file"]` appears in error messages).
    Raise DataError if ids have gaps, if there is no end-of-document token, or if the name of a special token in a text would
    become its id.
    """

    def __init__(self, backend: Backend, identity: Mapping[str, str]):
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self.infilling_ids = find_infilling_ids(backend.get_vocab())
        infilling = set(self.infilling_ids.values())
        found = [token.content for token_id, token in backend.get_added_tokens_decoder().items() if token_id in infilling]
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in found])  # Qwen's are not
        self._backend = backend
        self._identity = dict(identity)
        self._file = identity["vocab_file"]
        added_tokens = backend.get_added_tokens_decoder()
        added = {token.content for token in added_tokens.values()}
        vocabulary = backend.get_vocab(with_added_tokens=True)
        tokens = sort_tokens_by_id(vocabulary, self._file)
        self.bytes_of_id = [token.encode("utf-8") if token in added else convert_token_to_bytes(token) for token in tokens]
        self.token_lengths = np.array([len(data) for data in self.bytes_of_id], dtype=np.int32)
        self.missing_bytes = bytes(byte for byte in range(256) if CHARACTER_OF_BYTE[byte] not in vocabulary)
        self.special_ids = {vocabulary[name] for name in SPECIAL_TOKENS if name in vocabulary}
        self.special_ids |= {token_id for token_id, token in added_tokens.items() if token.special} | infilling
        self._missing_text_bytes = bytes(byte for byte in self.missing_bytes if byte in BYTES_OF_UTF8)
        self._eod_id = find_required_id(vocabulary, END_OF_DOCUMENT, self._file)
        self._pad_id = vocabulary.get(PADDING, self._eod_id)
        self._check_special_names_are_text(vocabulary)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the backend's setting `encode_special_tokens`, which pickle does not keep."""
        self.__dict__.update(state)
        self._backend.encode_special_tokens = True

    @property
    def vocab_size(self) -> int:
        return len(self.bytes_of_id)

    @property
    def eod_id(self) -> int:
        return self._eod_id

    @property
    def pad_id(self) -> int:
        return self._pad_id

    @property
    def identity(self) -> dict[str, str]:
        return dict(self._identity)

    @property
    def description(self) -> dict[str, Any]:
        """Content of the tokenizer.json."""
        return json.loads(self._backend.to_str())

    @property
    def keeps_text(self) -> bool:
        """True if no normalizer changes a text before it is encoded, so that the ids always decode to the same bytes."""
        return self._backend.normalizer is None

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text. Raise DataError for bytes that the vocabulary lacks and for lone surrogates."""
        self.check_text(text)
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            self.check_text(text)
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the exact bytes of the ids, special tokens as their names. Raise DataError for an id outside the vocabulary."""
        check_ids(ids, self.vocab_size, self._file)
        return b"".join(map(self.bytes_of_id.__getitem__, ids))

    def read_token_bytes(self) -> list[bytes]:
        return [b"" if token_id in self.special_ids else data for token_id, data in enumerate(self.bytes_of_id)]

    def find_last_stable_boundary(self, text: str) -> int:
        splitting = self._backend.pre_tokenizer
        pieces = splitting.pre_tokenize_str(text) if splitting else []
        return pieces[-1][1][0] if pieces else 0

    def check_text(self, text: str) -> None:
        """Raise DataError for text that `encode` refuses."""
        data = encode_utf8(text)
        if not self._missing_text_bytes or len(data.translate(None, self._missing_text_bytes)) == len(data):
            return
        counts = Counter(byte for byte in data if byte in self._missing_text_bytes)
        found = " and ".join(f"byte 0x{byte:02X} {times:,} times" for byte, times in sorted(counts.items()))
        is_cr = counts.keys() == {0x0D}
        remedy = "Set newlines to lf, which converts line ends to LF" if is_cr else "Remove it from the text"
        raise DataError(
            f"the text contains {found}, but {self._file} has no token for it. {remedy}, or use a vocabulary of all 256 bytes."
        )

    def _check_special_names_are_text(self, vocabulary: Mapping[str, int]) -> None:
        for name in SPECIAL_TOKENS:
            if vocabulary.get(name) in self._backend.encode(name, add_special_tokens=False).ids:
                raise DataError(
                    f"{self._file} encodes the name {name} inside a text as the token's id {vocabulary[name]}. "
                    "Mark the token as special in this file, so that its name in source code stays text."
                )


def sort_tokens_by_id(vocabulary: Mapping[str, int], file: str) -> list[str]:
    """Return the tokens in the order of their ids. Raise DataError if the ids are not 0 to n - 1, each once."""
    tokens: list[str | None] = [None] * len(vocabulary)
    for token_id, token in sorted((token_id, token) for token, token_id in vocabulary.items()):
        if not 0 <= token_id < len(tokens) or tokens[token_id] is not None:
            raise DataError(
                f"{file}: token {token!r} has id {token_id}, but the {len(tokens):,} tokens must have the ids "
                f"0 to {len(tokens) - 1:,}, each once. Use the unchanged file that the tokenizer training wrote."
            )
        tokens[token_id] = token
    return [token for token in tokens if token is not None]


def find_required_id(vocabulary: Mapping[str, int], token: str, file: str) -> int:
    if token not in vocabulary:
        raise DataError(f"{file} has no token {token}, which ends every document. Use a vocabulary that has it.")
    return vocabulary[token]


def check_ids(ids: Sequence[int], vocab_size: int, file: str) -> None:
    """Raise DataError for an id outside the vocabulary, which a model with a padded vocabulary may generate."""
    if len(ids) and not (min(ids) >= 0 and max(ids) < vocab_size):
        wrong = next(token_id for token_id in ids if not 0 <= token_id < vocab_size)
        raise DataError(
            f"id {wrong} is not in {file}, which has the ids 0 to {vocab_size - 1:,}. Use the tokenizer that encoded the text."
        )


def encode_utf8(text: str) -> bytes:
    """Return the text in UTF-8. Raise DataError for a lone surrogate, which UTF-8 cannot express."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text contains the lone surrogate U+{ord(text[error.start]):04X} at character {error.start:,}, which UTF-8 cannot "
            "express. Decode the file as UTF-8 with errors replaced or ignored."
        ) from None


def make_byte_alphabet() -> Iterable[str]:
    """Return the 256 characters of the alphabet, in the order of a GPT-2 vocabulary's first ids."""
    return sorted(BYTE_OF_CHARACTER)
