"""Tokenizers whose every token is a run of bytes: what GPT-2's vocabularies and their tokenizer.json have in common.

A byte-level vocabulary spells bytes as printable characters: the 188 printable ones of Latin-1 stand for themselves, the other
68 for U+0100 onwards in order, so that a space is `Ġ` and a line feed `Ċ`.

    >>> token_bytes("Ġdef"), token_bytes("Ċ")
    (b' def', b'\\n')

`ByteLevelTokenizer` is the whole of neox_code.tokenizer.protocol.Tokenizer over such a vocabulary; neox_code.tokenizer.gpt2 and
neox_code.tokenizer.huggingface read the files. Encoding is done by the tokenizers library; decoding by our own table, so that it
is exact for any ids.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from neox_code.errors import DataError
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING, SEPARATOR

SPECIAL_TOKENS = (END_OF_DOCUMENT, PADDING, SEPARATOR)
"""In the order of their ids in a vocabulary of ours: 0, 1, 2."""

PRINTABLE_BYTES = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
OTHER_BYTES = tuple(sorted(set(range(256)) - set(PRINTABLE_BYTES)))
CHARACTER_OF_BYTE = {byte: chr(byte) for byte in PRINTABLE_BYTES} | {byte: chr(256 + n) for n, byte in enumerate(OTHER_BYTES)}
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}

BYTES_OF_UTF8 = frozenset(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}
"""The bytes that occur in UTF-8; no text holds the other 13."""


def token_bytes(token: str) -> bytes:
    """The bytes that a token of a byte-level vocabulary stands for; one that is not spelled in its alphabet is plain text."""
    try:
        return bytes([BYTE_OF_CHARACTER[character] for character in token])
    except KeyError:
        return token.encode("utf-8")


class ByteLevelTokenizer:
    """A byte-level vocabulary in the tokenizers library, with exact decoding and nothing dropped.

    `backend` encodes; `identity` describes the files, whose names lead the error messages (`identity["vocab_file"]`).
    Raises DataError where ids have gaps, where there is no end-of-document token, or where the name of a special token
    written in a text would become its id.
    """

    def __init__(self, backend: Backend, identity: Mapping[str, str]):
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self._identity = dict(identity)
        self._file = identity["vocab_file"]
        added_tokens = backend.get_added_tokens_decoder()
        added = {token.content for token in added_tokens.values()}
        vocabulary = backend.get_vocab(with_added_tokens=True)
        tokens = tokens_by_id(vocabulary, self._file)
        self.bytes_of_id = [token.encode("utf-8") if token in added else token_bytes(token) for token in tokens]
        self.token_lengths = np.array([len(data) for data in self.bytes_of_id], dtype=np.int32)
        self.lacked_bytes = bytes(byte for byte in range(256) if CHARACTER_OF_BYTE[byte] not in vocabulary)
        self.special_ids = {vocabulary[name] for name in SPECIAL_TOKENS if name in vocabulary}
        self.special_ids |= {token_id for token_id, token in added_tokens.items() if token.special}
        self._missing_bytes = bytes(byte for byte in self.lacked_bytes if byte in BYTES_OF_UTF8)
        self._eod_id = required_id(vocabulary, END_OF_DOCUMENT, self._file)
        self._pad_id = vocabulary.get(PADDING, self._eod_id)
        self._check_special_names_are_text(vocabulary)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A pickled backend forgets that the names of special tokens are text."""
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
        """The content of a tokenizer.json."""
        return json.loads(self._backend.to_str())

    @property
    def keeps_text(self) -> bool:
        """Whether the ids of a text stand for its bytes in any case: nothing normalizes it before it is cut."""
        return self._backend.normalizer is None

    def encode(self, text: str) -> list[int]:
        """Ids of the text. Raises DataError for text with bytes that the vocabulary lacks, and for lone surrogates."""
        self.check_holds(text)
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            self.check_holds(text)
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of the ids, special tokens as their names. Raises DataError for an id outside the vocabulary."""
        check_ids(ids, self.vocab_size, self._file)
        return b"".join(map(self.bytes_of_id.__getitem__, ids))

    def check_holds(self, text: str) -> None:
        """Raises DataError for text that `encode` refuses."""
        data = utf8(text)
        if not self._missing_bytes or len(data.translate(None, self._missing_bytes)) == len(data):
            return
        counts = Counter(byte for byte in data if byte in self._missing_bytes)
        found = " and ".join(f"byte 0x{byte:02X} {times:,} times" for byte, times in sorted(counts.items()))
        remedy = "Set newlines to lf, which makes its line ends LF" if counts.keys() == {0x0D} else "Remove it from the text"
        raise DataError(
            f"the text holds {found}, for which {self._file} has no token. {remedy}, or use a vocabulary of all 256 bytes."
        )

    def _check_special_names_are_text(self, vocabulary: Mapping[str, int]) -> None:
        for name in SPECIAL_TOKENS:
            if vocabulary.get(name) in self._backend.encode(name, add_special_tokens=False).ids:
                raise DataError(
                    f"{self._file} turns the name {name} inside a text into the token's id {vocabulary[name]}. "
                    "Mark the token as special there, so that its name in a source file stays text."
                )


def tokens_by_id(vocabulary: Mapping[str, int], file: str) -> list[str]:
    """The tokens in the order of their ids, which must be 0 to n - 1, each once."""
    tokens: list[str | None] = [None] * len(vocabulary)
    for token_id, token in sorted((token_id, token) for token, token_id in vocabulary.items()):
        if not 0 <= token_id < len(tokens) or tokens[token_id] is not None:
            raise DataError(
                f"{file}: token {token!r} has id {token_id}, but the {len(tokens):,} tokens must have the ids "
                f"0 to {len(tokens) - 1:,}, each once. Use the file as its training wrote it."
            )
        tokens[token_id] = token
    return [token for token in tokens if token is not None]


def required_id(vocabulary: Mapping[str, int], token: str, file: str) -> int:
    if token not in vocabulary:
        raise DataError(f"{file} has no token {token}, which ends every document. Use a vocabulary that has it.")
    return vocabulary[token]


def check_ids(ids: Sequence[int], vocab_size: int, file: str) -> None:
    """Raises DataError for an id that the vocabulary does not have; a padded model may propose one."""
    if len(ids) and not (min(ids) >= 0 and max(ids) < vocab_size):
        wrong = next(token_id for token_id in ids if not 0 <= token_id < vocab_size)
        raise DataError(
            f"id {wrong} is not in {file}, which has the ids 0 to {vocab_size - 1:,}. Use the tokenizer that made the ids."
        )


def utf8(text: str) -> bytes:
    """The text's bytes. Raises DataError for a lone surrogate, which has none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start:,}, which UTF-8 cannot "
            "express. Decode the file as UTF-8 with errors replaced or ignored."
        ) from None


def byte_alphabet() -> Iterable[str]:
    """The 256 characters of the alphabet in the order of a GPT-2 vocabulary's first ids."""
    return sorted(BYTE_OF_CHARACTER)
