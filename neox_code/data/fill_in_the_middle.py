"""Fill in the middle: documents in the order of infilling prompts, so that a model learns to write the text between two texts.

    transform = build_middle_transform(config.data, tokenizer)                 # None if fim_rate is 0
    ids = transform.rearrange(ids, "Python", np.random.default_rng([seed, epoch, document]))
    row = transform.divide_ids(tokenizer.encode(text), "Python", generator)    # for fine-tuning
    row.prompt, row.middle                                                     # loss on the middle alone, or on both

With PRE, SUF and MID for the infilling tokens, a document becomes

    psm    PRE prefix SUF suffix MID middle
    spm    PRE SUF suffix MID prefix middle

and its end-of-document token stays at its end. prefix + middle + suffix is the document, byte for byte. The two cuts are drawn
evenly from all borders of characters or tokens, or are those of a span of the syntax tree. At borders of characters the three
parts are encoded each for itself. A part of a document that is not UTF-8 (a sample may begin within a character), or whose ids do
not decode to the same bytes (a vocabulary that changes text), is cut at borders of tokens.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neox_code.config.data import DataConfig
from neox_code.data.shares import require_origins
from neox_code.errors import DataError
from neox_code.syntax.grammars import list_grammars, load_grammar
from neox_code.syntax.spans import KINDS, list_spans
from neox_code.tokenizer.infilling import Order, encode_next, find_markers, order_parts
from neox_code.tokenizer.protocol import Tokenizer

MIDDLE_KINDS = ("block", "call", "condition", "argument")
"""Syntactic kinds of middles. A kind is drawn first, then one of its spans, so that frequent kinds do not displace the others."""

Ids = list[int]


class DividedText(NamedTuple):
    """The ids of a text of which a model completes the middle."""

    prompt: Ids
    """Prefix and suffix with the infilling tokens, in the order of an infilling prompt."""
    middle: Ids
    order: Order
    cut: str
    """`character`, `token` or the syntactic kind of the middle."""


@dataclass
class MiddleTransform:
    """Rearrangement of a share of the documents. The generator that a caller passes decides everything."""

    tokenizer: Tokenizer
    rate: float
    spm_rate: float
    syntax_rate: float
    cuts_tokens: bool

    def __post_init__(self) -> None:
        self.markers = find_markers(self.tokenizer)
        self.token_bytes = self.tokenizer.read_token_bytes()
        self.counts: Counter[str] = Counter()

    def rearrange(self, ids: NDArray[np.integer], language: str | None, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return the ids [n] of a part of a document, rearranged as `rate` decides. End-of-document tokens inside divide it."""
        found: Ids = []
        begin = 0
        for end in [*np.flatnonzero(ids == self.tokenizer.eod_id).tolist(), len(ids)]:
            found += self.maybe_divide(ids[begin:end].tolist(), language, generator)
            found += ids[end : end + 1].tolist()
            begin = end + 1
        return np.array(found, np.int64)

    def maybe_divide(self, ids: Ids, language: str | None, generator: np.random.Generator) -> Ids:
        """Return the ids of a text without end-of-document tokens, which are divided with the probability `rate`."""
        if not ids:
            return []
        if generator.random() >= self.rate:
            self.counts["unchanged"] += 1
            return ids
        divided = self.divide_ids(ids, language, generator)
        self.counts[f"{divided.order} {divided.cut}"] += 1
        return [*divided.prompt, *divided.middle]

    def divide_ids(
        self, ids: Ids, language: str | None, generator: np.random.Generator, most_growth: int | None = None
    ) -> DividedText:
        """Return the parts of a document. They are cut at borders of tokens if they would have over `most_growth` ids more."""
        by_syntax = generator.random() < self.syntax_rate
        order: Order = "spm" if generator.random() < self.spm_rate else "psm"
        parts = None
        if by_syntax or not self.cuts_tokens:
            found = [self.token_bytes[token] for token in ids]
            data = b"".join(found)
            if all(found) and (text := decode_whole(data)):  # a special token inside has no bytes
                begin, end, cut = choose_middle(text, data, language if by_syntax else None, generator)
                if cut != "character" or not self.cuts_tokens:
                    parts = self.encode_parts(data, begin, end)
        if parts is None or (most_growth is not None and sum(map(len, parts)) > len(ids) + most_growth):
            (begin, end), cut = draw_cuts(len(ids), generator), "token"
            parts = ids[:begin], ids[begin:end], ids[end:]
            assert [*parts[0], *parts[1], *parts[2]] == ids
        prefix, middle, suffix = parts
        return DividedText(order_parts(self.markers, prefix, suffix, order), middle, order, cut)

    def encode_parts(self, data: bytes, begin: int, end: int) -> tuple[Ids, Ids, Ids] | None:
        """Return the ids of the three parts of a text; None if they do not decode to its bytes."""
        try:
            parts = [encode_next(self.tokenizer, part.decode()) for part in (data[:begin], data[begin:end], data[end:])]
        except DataError:  # for example the name of a special token in a SentencePiece model
            return None
        if b"".join(self.token_bytes[token] for part in parts for token in part) != data:
            return None
        return parts[0], parts[1], parts[2]


@dataclass(frozen=True)
class DocumentTransform:
    """The transform of one token file's documents."""

    transform: MiddleTransform
    languages: tuple[list[str], NDArray[np.integer]] | None
    """Names of languages, and the index of each document's language; None without spans of syntax trees."""

    def __call__(self, ids: NDArray[np.integer], document: int, seed: Sequence[int]) -> NDArray[np.int64]:
        """Return the ids of a part of a document; `seed` determines the result."""
        language = self.languages[0][int(self.languages[1][document])] if self.languages else None
        return self.transform.rearrange(ids, language, np.random.default_rng(seed))


def build_middle_transform(data: DataConfig, tokenizer: Tokenizer) -> MiddleTransform | None:
    """Return the transform that the keys `fim_*` describe; None if `fim_rate` is 0.

    Raise DataError if the vocabulary has no infilling tokens.
    """
    if not data.fim_rate:
        return None
    require_markers(tokenizer, data, f"fim_rate ({data.fim_rate:g})")
    return MiddleTransform(tokenizer, data.fim_rate, data.fim_spm_rate, data.fim_syntax_rate, data.fim_cut == "token")


def require_markers(tokenizer: Tokenizer, data: DataConfig, asked: str) -> None:
    """Raise DataError if the vocabulary has no infilling tokens, which `asked` needs."""
    if not find_markers(tokenizer):
        place = data.vocab_file or data.tokenizer_type
        raise DataError(
            f"{asked} needs tokens for prefix, suffix and middle, which {place} lacks. Add them with "
            "tools/extend_vocabulary.py --infilling, which writes the vocabulary, and the model if there is one already."
        )


def build_document_transform(transform: MiddleTransform, prefix: str) -> DocumentTransform:
    """Return the transform for a token file. With spans of syntax trees, the languages are read from its origins.

    Raise DataError if it has no origins, ConfigError if the grammar of one of its languages is not installed.
    """
    if not transform.syntax_rate:
        return DocumentTransform(transform, None)
    names, index = require_origins(prefix, "fim_syntax_rate").read_languages()
    for name, grammar in list_grammars().items():
        if name in names:
            load_grammar(grammar)
    return DocumentTransform(transform, (names, index.astype(np.min_scalar_type(len(names)))))


def decode_whole(data: bytes) -> str:
    """Return the text; "" for bytes that are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def draw_cuts(length: int, generator: np.random.Generator) -> tuple[int, int]:
    """Return two borders from 0 to `length`, ascending, each drawn evenly; they may be equal."""
    first, second = sorted(generator.integers(0, length + 1, 2).tolist())
    return first, second


def choose_middle(text: str, data: bytes, language: str | None, generator: np.random.Generator) -> tuple[int, int, str]:
    """Return the middle of a text as two offsets in its bytes `data`, and its kind; `character` if the cuts are random.

    A language without a grammar has no syntactic kinds.
    """
    if language in list_grammars():
        spans = [span for span in list_spans(language, data) if span.kind in MIDDLE_KINDS]
        kinds = sorted({span.kind for span in spans}, key=KINDS.index)
        if kinds:
            kind = kinds[int(generator.integers(len(kinds)))]
            own = [span for span in spans if span.kind == kind]
            span = own[int(generator.integers(len(own)))]
            return span.begin, span.end, kind
    begin, end = draw_cuts(len(text), generator)
    return len(text[:begin].encode()), len(data) - len(text[end:].encode()), "character"


def describe_counts(counts: Counter[str]) -> str:
    """Return the shares of the outcomes, the most frequent first: "unchanged 50.0%, psm character 25.0%"."""
    total = max(1, counts.total())
    return ", ".join(f"{name} {number / total:.1%}" for name, number in counts.most_common())
