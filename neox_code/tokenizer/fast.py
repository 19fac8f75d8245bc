"""The accelerated encoder: many texts to one array of ids, behind a gate that compares it with the plain encoder.

    encoder = GatedEncoder(tokenizer, first_choice(tokenizer))
    ids, lengths = encoder.encode(["x = 1\\n", "package main\\n"], ["Python", "Go"])
    encoder.name, encoder.compared.documents          # 'gigatoken', 2

gigatoken encodes some 25 times faster than the tokenizers library, tiktoken five times. Neither is trusted: the first texts of
every language, and after them one in ONE_IN, are encoded by the tokenizer itself as well. Ids that differ are IdsDiffer: begin
again with the next of ENCODERS, as for a vocabulary that a library does not take.
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
"""Of every language, compared before anything else of it."""
ONE_IN = 512
"""Further texts are compared one in so many."""
LONGEST_COMPARED = 2**18
"""In characters; a longer text would cost more than all others together."""

CACHE_BYTES = 2**29
"""gigatoken keeps every word that it has seen, so it is loaded anew where the process has grown by so much."""

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
PROBES = (
    "<|endoftext|>\n",
    "\t\tif x:\n        don't  \n\n",
    "caf\u00e9 e\u0301 \uff11\u3000\u2028\x85\ufeff \U0001f600\U0010ffff",
    "\0\x7f ===",
)
"""Compared before any text."""

Encoded = tuple[NDArray[np.integer], NDArray[np.int64]]
"""The ids of all texts, one after the other, and how many each has."""


class Encoder(Protocol):
    def __call__(self, texts: Sequence[str]) -> Encoded: ...


class IdsDiffer(Exception):
    """An accelerated encoder gave other ids than the tokenizer."""


def plain_encoder(tokenizer: Tokenizer) -> Encoder:
    """The tokenizer itself."""

    def encode(texts: Sequence[str]) -> Encoded:
        batch = tokenizer.encode_batch(texts)
        return flat([np.asarray(ids, dtype=np.int32) for ids in batch])

    return encode


def gigatoken_encoder(tokenizer: Tokenizer) -> Encoder | None:
    if not isinstance(tokenizer, ByteLevelTokenizer):
        return None
    description = tokenizer.description
    description["added_tokens"] = [token for token in description["added_tokens"] if not token["special"]]
    description |= {"truncation": None, "padding": None, "post_processor": None}
    vocabulary = description["model"]["vocab"]
    for byte, number in private_ids(tokenizer).items():
        vocabulary[CHARACTER_OF_BYTE[byte]] = number
    written = json.dumps(description)
    backend = gigatoken.Tokenizer.from_json(written)
    most = resident_bytes() + CACHE_BYTES

    def encode(texts: Sequence[str]) -> Encoded:
        nonlocal backend, most
        if resident_bytes() > most:
            backend = gigatoken.Tokenizer.from_json(written)
            most = resident_bytes() + CACHE_BYTES
        rows = backend.encode_batch(list(texts), parallel=False).layout
        return rows.content.data, np.diff(rows.offsets.data)

    return encode


def tiktoken_encoder(tokenizer: Tokenizer) -> Encoder | None:
    """Of a vocabulary with GPT-2's splitting alone, whose ids stand in the order of its merges."""
    if not isinstance(tokenizer, ByteLevelTokenizer) or not splits_as_gpt2(tokenizer.description):
        return None
    ranks = {data: number for number, data in enumerate(tokenizer.bytes_of_id) if number not in tokenizer.special_ids}
    ranks |= {bytes([byte]): number for byte, number in private_ids(tokenizer).items()}
    backend = tiktoken.Encoding("gpt2 splitting", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})

    def encode(texts: Sequence[str]) -> Encoded:
        return flat([backend.encode_to_numpy(text, disallowed_special=()) for text in texts])

    return encode


ENCODERS: dict[str, Callable[[Tokenizer], Encoder | None]] = {
    "gigatoken": gigatoken_encoder,
    "tiktoken": tiktoken_encoder,
    "plain": plain_encoder,
}
"""In the order of their speed; the last takes every tokenizer."""


def private_ids(tokenizer: ByteLevelTokenizer) -> dict[int, int]:
    """Ids beyond the vocabulary for the bytes that it lacks: both libraries want all 256. No text that holds one is encoded."""
    return {byte: tokenizer.vocab_size + index for index, byte in enumerate(tokenizer.lacked_bytes)}


def splits_as_gpt2(description: dict[str, Any]) -> bool:
    splitting = description["pre_tokenizer"] or {}
    ordinary = [token for token in description["added_tokens"] if not token["special"]]
    plain = (splitting.get("type"), splitting.get("add_prefix_space"), splitting.get("use_regex")) == ("ByteLevel", False, True)
    return plain and not ordinary and description["normalizer"] is None


def flat(batch: list[NDArray[Any]]) -> Encoded:
    lengths = np.array([len(ids) for ids in batch], dtype=np.int64)
    return np.concatenate(batch) if batch else np.empty(0, dtype=np.int32), lengths


def resident_bytes() -> int:
    """Of this process, in memory; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def load_encoder(tokenizer: Tokenizer, name: str) -> Encoder | None:
    """The encoder of that name; None if the library does not take the vocabulary, or gives other ids for PROBES."""
    try:
        encoder = ENCODERS[name](tokenizer)
        return encoder if encoder is None or name == "plain" or agrees_on_probes(encoder, tokenizer) else None
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # Rust's panics are no Exceptions
        return None


def agrees_on_probes(encoder: Encoder, tokenizer: Tokenizer) -> bool:
    probes = [text for text in PROBES if is_held(tokenizer, text)]
    ids, lengths = encoder(probes)
    expected = tokenizer.encode_batch(probes)
    return ids.tolist() == list(chain(*expected)) and lengths.tolist() == list(map(len, expected))


def first_choice(tokenizer: Tokenizer, after: str | None = None) -> str:
    """The fastest encoder (slower than `after`) that takes the vocabulary."""
    names = list(ENCODERS)
    return next(name for name in names[names.index(after) + 1 if after else 0 :] if load_encoder(tokenizer, name))


def first_guess(tokenizer: Tokenizer) -> str:
    """The same without loading one: what it does not take is an IdsDiffer of GatedEncoder."""
    return next(iter(ENCODERS)) if isinstance(tokenizer, ByteLevelTokenizer) else "plain"


@dataclass
class Compared:
    documents: int = 0
    characters: int = 0
    languages: int = 0


class GatedEncoder:
    """The encoder of a name, compared with the tokenizer as it goes."""

    def __init__(self, tokenizer: Tokenizer, name: str):
        encoder = load_encoder(tokenizer, name)
        if encoder is None:
            raise IdsDiffer(f"{name} does not take the vocabulary")
        self.name = name
        self.compared = Compared()
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._characters: Counter[str] = Counter()
        self._num_texts = 0

    def encode(self, texts: Sequence[str], languages: Sequence[str]) -> Encoded:
        """Raises IdsDiffer where a text that is compared has other ids, DataError for one that the vocabulary cannot hold."""
        if self.name == "plain":
            return self._encoder(texts)
        check_holds(self._tokenizer, texts)
        ids, lengths = self._encoder(texts)
        ends = np.cumsum(lengths)
        for index in self._chosen(texts, languages):
            found = ids[ends[index] - lengths[index] : ends[index]].tolist()
            if found != self._tokenizer.encode(texts[index]):
                raise IdsDiffer(f"{self.name} gives other ids for a text of {languages[index]} that begins {texts[index][:60]!r}")
        return ids, lengths

    def _chosen(self, texts: Sequence[str], languages: Sequence[str]) -> list[int]:
        """The texts to compare, by their index."""
        chosen = []
        for index, (text, language) in enumerate(zip(texts, languages, strict=True)):
            self._num_texts += 1
            is_early = self._characters[language] < FIRST_CHARACTERS
            if len(text) <= LONGEST_COMPARED and (is_early or self._num_texts % ONE_IN == 0):
                self.compared.languages += language not in self._characters
                self._characters[language] += len(text)
                self.compared.documents += 1
                self.compared.characters += len(text)
                chosen.append(index)
        return chosen


def is_held(tokenizer: Tokenizer, text: str) -> bool:
    try:
        tokenizer.encode(text)
    except DataError:
        return False
    return True


def check_holds(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    if isinstance(tokenizer, ByteLevelTokenizer):
        for text in texts:
            tokenizer.check_holds(text)
