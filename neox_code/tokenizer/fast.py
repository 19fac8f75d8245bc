"""Accelerated encoders: they convert many texts to one array of ids, and are verified against the tokenizer itself.

    encoder = GatedEncoder(tokenizer, find_fastest_encoder(tokenizer))
    ids, lengths = encoder.encode(["x = 1\\n", "package main\\n"], ["Python", "Go"])
    encoder.name, encoder.compared.documents          # 'gigatoken', 2

gigatoken encodes about 25 times faster than the tokenizers library, and tiktoken five times faster. Their ids are verified: the
tokenizer itself also encodes the first texts of every language and then one text in COMPARED_INTERVAL. If ids differ, IdsDiffer is
raised, and the caller starts again with the next entry of ENCODERS. The next entry is also used if a library does not support a
vocabulary.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import gigatoken
import numpy as np
import tiktoken
from numpy.typing import NDArray

from neox_code.errors import DataError
from neox_code.tokenizer.byte_level import CHARACTER_OF_BYTE, ByteLevelTokenizer
from neox_code.tokenizer.protocol import Tokenizer

FIRST_CHARACTERS = 2**15
"""Number of characters of each language that are compared first. After these characters, only some texts are compared."""
COMPARED_INTERVAL = 512
"""After the first texts of a language, one text in this number of texts is compared."""
LONGEST_COMPARED = 2**18
"""Maximum length of a compared text in characters. Comparing longer texts would take more time than comparing all others."""

CACHE_BYTES = 2**29
"""Growth of the process in bytes after which gigatoken is reloaded, because its cache of pretokens grows without limit."""

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
PROBES = (
    "<|endoftext|>\n",
    "\t\tif x:\n        don't  \n\n",
    "caf\u00e9 e\u0301 \uff11\u3000\u2028\x85\ufeff \U0001f600\U0010ffff",
    "\0\x7f ===",
)
"""Texts that are compared when an encoder is loaded."""

Encoded = tuple[NDArray[np.integer], NDArray[np.int64]]
"""The concatenated ids of all texts, shape (ids,), and the number of ids of each text, shape (texts,)."""


class Encoder(Protocol):
    def __call__(self, texts: Sequence[str]) -> Encoded: ...


class IdsDiffer(Exception):
    """An accelerated encoder returned other ids than the tokenizer."""


def build_plain_encoder(tokenizer: Tokenizer) -> Encoder:
    def encode(texts: Sequence[str]) -> Encoded:
        batch = tokenizer.encode_batch(texts)
        return concatenate_ids([np.asarray(ids, dtype=np.int32) for ids in batch])

    return encode


def build_gigatoken_encoder(tokenizer: Tokenizer) -> Encoder | None:
    """Return an encoder that uses gigatoken; None if the vocabulary is not byte-level."""
    if not isinstance(tokenizer, ByteLevelTokenizer):
        return None
    description = tokenizer.description
    description["added_tokens"] = [token for token in description["added_tokens"] if not token["special"]]
    description |= {"truncation": None, "padding": None, "post_processor": None}
    vocabulary = description["model"]["vocab"]
    for byte, number in assign_unused_ids(tokenizer).items():
        vocabulary[CHARACTER_OF_BYTE[byte]] = number
    tokenizer_json = json.dumps(description)
    backend = gigatoken.Tokenizer.from_json(tokenizer_json)
    memory_limit = read_resident_bytes() + CACHE_BYTES

    def encode(texts: Sequence[str]) -> Encoded:
        nonlocal backend, memory_limit
        if read_resident_bytes() > memory_limit:
            backend = gigatoken.Tokenizer.from_json(tokenizer_json)
            memory_limit = read_resident_bytes() + CACHE_BYTES
        rows = backend.encode_batch(list(texts), parallel=False).layout
        return rows.content.data, np.diff(rows.offsets.data)

    return encode


def build_tiktoken_encoder(tokenizer: Tokenizer) -> Encoder | None:
    """Return an encoder that uses tiktoken; None if the vocabulary is not byte-level or does not split text as GPT-2 does.

    tiktoken merges in the order of the ids, which must therefore be the order of the merges.
    """
    if not isinstance(tokenizer, ByteLevelTokenizer) or not is_split_as_gpt2(tokenizer.description):
        return None
    ranks = {data: number for number, data in enumerate(tokenizer.bytes_of_id) if number not in tokenizer.special_ids}
    ranks |= {bytes([byte]): number for byte, number in assign_unused_ids(tokenizer).items()}
    backend = tiktoken.Encoding("gpt2 splitting", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})

    def encode(texts: Sequence[str]) -> Encoded:
        return concatenate_ids([backend.encode_to_numpy(text, disallowed_special=()) for text in texts])

    return encode


ENCODERS: dict[str, Callable[[Tokenizer], Encoder | None]] = {
    "gigatoken": build_gigatoken_encoder,
    "tiktoken": build_tiktoken_encoder,
    "plain": build_plain_encoder,
}
"""Name -> function that builds the encoder, the fastest first; the last one supports every tokenizer."""


def assign_unused_ids(tokenizer: ByteLevelTokenizer) -> dict[int, int]:
    """Return missing byte -> an id beyond the vocabulary: both libraries need all 256 bytes. Text with such a byte is refused."""
    return {byte: tokenizer.vocab_size + index for index, byte in enumerate(tokenizer.missing_bytes)}


def is_split_as_gpt2(description: dict[str, Any]) -> bool:
    splitting = description["pre_tokenizer"] or {}
    ordinary = [token for token in description["added_tokens"] if not token["special"]]
    plain = (splitting.get("type"), splitting.get("add_prefix_space"), splitting.get("use_regex")) == ("ByteLevel", False, True)
    return plain and not ordinary and description["normalizer"] is None


def concatenate_ids(batch: list[NDArray[Any]]) -> Encoded:
    lengths = np.array([len(ids) for ids in batch], dtype=np.int64)
    return np.concatenate(batch) if batch else np.empty(0, dtype=np.int32), lengths


def read_resident_bytes() -> int:
    """Return the resident memory of this process in bytes; 0 on a system without /proc."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def load_encoder(tokenizer: Tokenizer, name: str) -> Encoder | None:
    """Return the encoder `name` of ENCODERS; None if it does not support the vocabulary or returns wrong ids for PROBES."""
    try:
        encoder = ENCODERS[name](tokenizer)
        return encoder if encoder is None or name == "plain" or is_correct_on_probes(encoder, tokenizer) else None
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # a panic of a Rust library is not an Exception
        return None


def is_correct_on_probes(encoder: Encoder, tokenizer: Tokenizer) -> bool:
    probes = [text for text in PROBES if is_encodable(tokenizer, text)]
    ids, lengths = encoder(probes)
    expected = tokenizer.encode_batch(probes)
    return ids.tolist() == list(chain(*expected)) and lengths.tolist() == list(map(len, expected))


def find_fastest_encoder(tokenizer: Tokenizer, after: str | None = None) -> str:
    """Return the name of the fastest encoder that supports the vocabulary; only encoders after `after` in ENCODERS are tried."""
    names = list(ENCODERS)
    return next(name for name in names[names.index(after) + 1 if after else 0 :] if load_encoder(tokenizer, name))


def guess_fastest_encoder(tokenizer: Tokenizer) -> str:
    """Return the name of the probably fastest encoder without loading it. GatedEncoder raises IdsDiffer if the encoder does not
    support the vocabulary.
    """
    return next(iter(ENCODERS)) if isinstance(tokenizer, ByteLevelTokenizer) else "plain"


@dataclass
class Compared:
    documents: int = 0
    characters: int = 0
    languages: int = 0


class GatedEncoder:
    """An encoder from ENCODERS. While it encodes, the ids of some texts are compared with the tokenizer's."""

    def __init__(self, tokenizer: Tokenizer, name: str):
        encoder = load_encoder(tokenizer, name)
        if encoder is None:
            raise IdsDiffer(f"{name} does not support the vocabulary")
        self.name = name
        self.compared = Compared()
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._characters: Counter[str] = Counter()
        self._num_texts = 0

    def encode(self, texts: Sequence[str], languages: Sequence[str]) -> Encoded:
        """Return the ids of the texts. Raise IdsDiffer for a wrong id, DataError for text that the vocabulary cannot represent."""
        if self.name == "plain":
            return self._encoder(texts)
        check_texts(self._tokenizer, texts)
        ids, lengths = self._encoder(texts)
        ends = np.cumsum(lengths)
        for index in self._select_texts_to_compare(texts, languages):
            found = ids[ends[index] - lengths[index] : ends[index]].tolist()
            if found != self._tokenizer.encode(texts[index]):
                raise IdsDiffer(f"{self.name} gives other ids for a text in {languages[index]} that begins {texts[index][:60]!r}")
        return ids, lengths

    def _select_texts_to_compare(self, texts: Sequence[str], languages: Sequence[str]) -> list[int]:
        """Return the indices of the texts to compare, and count them in `compared`."""
        chosen = []
        for index, (text, language) in enumerate(zip(texts, languages, strict=True)):
            self._num_texts += 1
            is_early = self._characters[language] < FIRST_CHARACTERS
            if len(text) <= LONGEST_COMPARED and (is_early or self._num_texts % COMPARED_INTERVAL == 0):
                self.compared.languages += language not in self._characters
                self._characters[language] += len(text)
                self.compared.documents += 1
                self.compared.characters += len(text)
                chosen.append(index)
        return chosen


def is_encodable(tokenizer: Tokenizer, text: str) -> bool:
    try:
        tokenizer.encode(text)
    except DataError:
        return False
    return True


def check_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    if isinstance(tokenizer, ByteLevelTokenizer):
        for text in texts:
            tokenizer.check_text(text)
