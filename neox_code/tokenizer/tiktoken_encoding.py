"""GPT-NeoX's TiktokenTokenizer: OpenAI's encodings from the tiktoken library.

    TiktokenTokenizer.from_encoding("cl100k_base")                      # from tiktoken's cache, or downloaded
    TiktokenTokenizer.from_encoding("encodings/cl100k_base.tiktoken")   # a local file

A .tiktoken file holds only ranks, so its file name must be one of ENCODINGS. The name of a special token inside a text is encoded
as ordinary text.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import tiktoken
from tiktoken.load import load_tiktoken_bpe
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from neox_code.errors import DataError
from neox_code.tokenizer.byte_level import check_ids, encode_utf8
from neox_code.tokenizer.infilling import find_infilling_ids
from neox_code.tokenizer.protocol import END_OF_DOCUMENT

WORDS_OF_R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WORDS_OF_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
WORDS_OF_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FILL_IN_THE_MIDDLE = {"<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}

ENCODINGS: dict[str, tuple[str, dict[str, int]]] = {
    "r50k_base": (WORDS_OF_R50K, {END_OF_DOCUMENT: 50256}),
    "p50k_base": (WORDS_OF_R50K, {END_OF_DOCUMENT: 50256}),
    "cl100k_base": (WORDS_OF_CL100K, {END_OF_DOCUMENT: 100257, **FILL_IN_THE_MIDDLE, "<|endofprompt|>": 100276}),
    "o200k_base": (WORDS_OF_O200K, {END_OF_DOCUMENT: 199999, "<|endofprompt|>": 200018}),
}
"""Name of an encoding -> the pattern that splits text into pretokens, and special token -> id."""


class TiktokenTokenizer:
    def __init__(self, encoding: tiktoken.Encoding, name: str, sha256: str):
        self._encoding = encoding
        self._name = name
        pattern = next((words for known, (words, _) in ENCODINGS.items() if known[:4] == encoding.name[:4]), WORDS_OF_R50K)
        self.infilling_ids = find_infilling_ids(
            {token: encoding.encode_single_token(token) for token in encoding.special_tokens_set}
        )
        self._splitting = Split(Regex(pattern), "isolated")
        self._identity = {"tokenizer_type": "TiktokenTokenizer", "vocab_file": name, "sha256": sha256}

    @classmethod
    def from_encoding(cls, name_or_file: str) -> Self:
        """Load an encoding. Raise DataError for an unknown or unavailable encoding, and a file whose name is not in ENCODINGS."""
        path = Path(name_or_file)
        encoding = load_encoding_file(path) if path.is_file() else load_published_encoding(name_or_file)
        digest = hashlib.sha256(f"{encoding.name} {encoding.n_vocab}\n".encode())
        for token in encoding.token_byte_values():
            digest.update(token + b"\n")
        return cls(encoding, name_or_file, digest.hexdigest())

    @property
    def encoding_name(self) -> str:
        return self._encoding.name

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    @property
    def eod_id(self) -> int:
        return self._encoding.eot_token

    @property
    def pad_id(self) -> int:
        """The id of the end-of-document token, because the encodings have no padding token."""
        return self._encoding.eot_token

    @property
    def identity(self) -> dict[str, str]:
        return dict(self._identity)

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text. Raise DataError for lone surrogates."""
        encode_utf8(text)
        return self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            encode_utf8(text)
        return self._encoding.encode_ordinary_batch(list(texts))

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the exact bytes of the ids. Raise DataError for an id that the encoding does not use."""
        check_ids(ids, self.vocab_size, self._name)
        try:
            return self._encoding.decode_bytes(list(ids))
        except KeyError as error:
            number = str(error.args[0]).split()[-1]
            raise DataError(f"id {number} is unused in {self._name}. Use the tokenizer that encoded the text.") from None

    def read_token_bytes(self) -> list[bytes]:
        found = [b""] * self.vocab_size
        for data in self._encoding.token_byte_values():
            found[self._encoding.encode_single_token(data)] = data
        return found

    def find_last_stable_boundary(self, text: str) -> int:
        pieces = self._splitting.pre_tokenize_str(text)
        return pieces[-1][1][0] if pieces else 0


def load_published_encoding(name: str) -> tiktoken.Encoding:
    """Return a published encoding by its name; raise DataError for unknown names."""
    try:
        return tiktoken.get_encoding(name)
    except ValueError:
        known = ", ".join(tiktoken.list_encoding_names())
        raise DataError(
            f"vocab_file ({name}) is neither a file nor an encoding of tiktoken ({known}). Set it to a file or one of these names."
        ) from None
    except Exception as error:  # depends on tiktoken's download library
        raise DataError(
            f"the encoding {name} cannot be downloaded: {type(error).__name__}. "
            f"Set TIKTOKEN_CACHE_DIR to a folder that contains it, or vocab_file to a local {name}.tiktoken."
        ) from None


def load_encoding_file(path: Path) -> tiktoken.Encoding:
    """Return the encoding of a .tiktoken file, which must have the name of its encoding."""
    if path.stem not in ENCODINGS:
        raise DataError(
            f"{path} must have the name of its encoding, which determines how text is split: {', '.join(ENCODINGS)}. "
            f"Rename it, for example to {next(iter(ENCODINGS))}.tiktoken."
        )
    pattern, special_tokens = ENCODINGS[path.stem]
    try:
        ranks = load_tiktoken_bpe(str(path))
        return tiktoken.Encoding(path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_tokens)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not a .tiktoken file: {error}. Download it again.") from None
