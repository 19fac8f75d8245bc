"""OpenAI's encodings by the tiktoken library: GPT-NeoX's TiktokenTokenizer.

    TiktokenTokenizer.from_encoding("cl100k_base")                      # of tiktoken's cache, or its download
    TiktokenTokenizer.from_encoding("encodings/cl100k_base.tiktoken")   # a local file

A .tiktoken file holds ranks alone, so its name says which of ENCODINGS it is. Text is text: the name of a special token in it is
encoded like any other.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import tiktoken
from tiktoken.load import load_tiktoken_bpe

from neox_code.errors import DataError
from neox_code.tokenizer.byte_level import check_ids, utf8
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
"""Name -> how text is cut into words, and the special tokens."""


class TiktokenTokenizer:
    def __init__(self, encoding: tiktoken.Encoding, name: str, sha256: str):
        self._encoding = encoding
        self._name = name
        self._identity = {"tokenizer_type": "TiktokenTokenizer", "vocab_file": name, "sha256": sha256}

    @classmethod
    def from_encoding(cls, name_or_file: str) -> Self:
        """Raises DataError for a name that tiktoken does not know or cannot fetch, and a file whose name is none of ENCODINGS."""
        path = Path(name_or_file)
        encoding = of_file(path) if path.is_file() else of_name(name_or_file)
        digest = hashlib.sha256(f"{encoding.name} {encoding.n_vocab}\n".encode())
        for token in encoding.token_byte_values():
            digest.update(token + b"\n")
        return cls(encoding, name_or_file, digest.hexdigest())

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    @property
    def eod_id(self) -> int:
        return self._encoding.eot_token

    @property
    def pad_id(self) -> int:
        """There is none of its own."""
        return self._encoding.eot_token

    @property
    def identity(self) -> dict[str, str]:
        return dict(self._identity)

    def encode(self, text: str) -> list[int]:
        """Raises DataError for lone surrogates."""
        utf8(text)
        return self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            utf8(text)
        return self._encoding.encode_ordinary_batch(list(texts))

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Raises DataError for an id that the encoding does not have, also within its range: there are gaps."""
        check_ids(ids, self.vocab_size, self._name)
        try:
            return self._encoding.decode_bytes(list(ids))
        except KeyError as error:
            number = str(error.args[0]).split()[-1]
            raise DataError(f"id {number} is a gap in {self._name}. Use the tokenizer that made the ids.") from None


def of_name(name: str) -> tiktoken.Encoding:
    try:
        return tiktoken.get_encoding(name)
    except ValueError:
        known = ", ".join(tiktoken.list_encoding_names())
        raise DataError(f"vocab_file ({name}) is neither a file nor an encoding of tiktoken ({known}). Name one of them.") from None
    except Exception as error:  # of whatever fetches it
        raise DataError(
            f"the encoding {name} cannot be fetched: {type(error).__name__}. "
            f"Set TIKTOKEN_CACHE_DIR to a folder that has it, or vocab_file to a local {name}.tiktoken."
        ) from None


def of_file(path: Path) -> tiktoken.Encoding:
    if path.stem not in ENCODINGS:
        raise DataError(
            f"{path} must have the name of its encoding, which decides how text is cut: {', '.join(ENCODINGS)}. "
            f"Rename it, as {next(iter(ENCODINGS))}.tiktoken."
        )
    words, special_tokens = ENCODINGS[path.stem]
    try:
        ranks = load_tiktoken_bpe(str(path))
        return tiktoken.Encoding(path.stem, pat_str=words, mergeable_ranks=ranks, special_tokens=special_tokens)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not a .tiktoken file: {error}. Get it again.") from None
