"""Add tokens to a model's vocabulary. The row of a new token is computed from existing rows, which stay unchanged.

    tokens = [NewToken("    "), NewToken("<|fim_prefix|>", is_special=True)]
    extended = extend_vocabulary(source, tokens, choose_piece_ids, folder)        # folder/tokenizer.json is written

An ordinary token is used wherever its text occurs, before the text is split and merged. A special token is never made from text.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from neox_code.checkpoint.weights import LazyWeights
from neox_code.conversion.source import ModelSource
from neox_code.errors import ConversionError, DataError
from neox_code.files import read_json
from neox_code.logs import get_logger
from neox_code.model.sharding import get_sharding
from neox_code.tokenizer.byte_level import ByteLevelTokenizer
from neox_code.tokenizer.train_bpe import WHITESPACE_TOKENS
from neox_code.tokenizer.vocabulary_file import TOKENIZER_JSON

log = get_logger(__name__)

MOST_TOKENS = 100_000
"""Maximum number of tokens that are added at once."""


@dataclass(frozen=True)
class NewToken:
    text: str
    is_special: bool = False


WHITESPACE = tuple(map(NewToken, WHITESPACE_TOKENS))
"""GPT-Code-Clippy's tokens for indentation."""

INFILLING = tuple(
    NewToken(f"<|{name}|>", is_special=True)
    for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")
)
"""Special tokens, by Qwen's names, for the parts of an infilling prompt (whose middle is missing), a repository and its files."""

Ids = tuple[int, ...] | range
RowRule = Callable[[ByteLevelTokenizer, NewToken], Ids]
"""Function that returns existing ids for a new token. The new token's row is the mean of the rows of these ids."""


def choose_piece_ids(tokenizer: ByteLevelTokenizer, token: NewToken) -> Ids:
    """Return the ids into which the existing vocabulary encodes the token's text."""
    return tuple(tokenizer.encode(token.text))


def choose_all_ids(tokenizer: ByteLevelTokenizer, token: NewToken) -> Ids:
    """Return all ids of the existing vocabulary."""
    return range(tokenizer.vocab_size)


def choose_token_id(text: str, tokenizer: ByteLevelTokenizer, token: NewToken) -> Ids:
    """Return the id of the token with this text. Raise ConversionError if the vocabulary has none."""
    if text.encode() in tokenizer.bytes_of_id:
        return (tokenizer.bytes_of_id.index(text.encode()),)
    remedy = "Choose a token of the vocabulary, or use the mean of pieces."
    raise ConversionError(f"{text!r} is not a token of {tokenizer.identity['vocab_file']}. {remedy}")


def extend_vocabulary(source: ModelSource, tokens: Sequence[NewToken], rule: RowRule, folder: Path) -> ModelSource:
    """Return the model with the new tokens, and write its tokenizer.json into `folder`.

    Tokens that the vocabulary already has are skipped and logged. The new tokens take the padding rows of the vocabulary first.
    Raise ConversionError if the tokenizer is not byte-level, or if the vocabulary already has all tokens.
    """
    tokenizer = source.tokenizer
    if not isinstance(tokenizer, ByteLevelTokenizer):
        kind = "no vocabulary" if tokenizer is None else f"tokenizer_type {source.config.data.tokenizer_type}"
        raise ConversionError(f"{source.folder} has {kind}. Tokens can only be added to GPT-2-style byte-level vocabularies.")
    added = choose_new_tokens(tokenizer, tokens)
    path = folder / TOKENIZER_JSON
    path.write_text(make_tokenizer_json(tokenizer, added), encoding="utf-8")
    pieces = [rule(tokenizer, token) for token in added]
    rows = max(source.vocab_rows, tokenizer.vocab_size + len(added))
    readers = {
        name: partial(extend_rows, source, name, tokenizer.vocab_size, rows, pieces)
        if get_sharding(name).is_vocabulary
        else partial(source.weights.__getitem__, name)
        for name in source.weights
    }
    config = source.config.replace(tokenizer_type="HFTokenizer", vocab_file=str(path), merge_file=None, merge_file_reader="whole")
    ids = f"{tokenizer.vocab_size:,} to {tokenizer.vocab_size + len(added) - 1:,}"
    log.info("%d new tokens have the ids %s; the model now has %s vocabulary rows", len(added), ids, f"{rows:,}")
    return replace(source, config=config, weights=LazyWeights(readers), record=None)


def choose_new_tokens(tokenizer: ByteLevelTokenizer, tokens: Sequence[NewToken]) -> list[NewToken]:
    """Return the tokens that the vocabulary lacks, in order, without repetitions. Raise ConversionError if it lacks none."""
    known = set(tokenizer.bytes_of_id)
    added = [token for token in dict.fromkeys(tokens) if token.text.encode() not in known]
    if left_out := [token.text for token in tokens if token.text.encode() in known]:
        log.info("the vocabulary has these tokens already: %s", ", ".join(map(repr, left_out)))
    texts = [token.text for token in added]
    if repeated := sorted(text for text in texts if texts.count(text) > 1):
        raise ConversionError(f"{repeated[0]!r} is named both as a special and as an ordinary token. Name it once.")
    if not added:
        raise ConversionError(f"{tokenizer.identity['vocab_file']} has all of the tokens already. There is nothing to add.")
    return added


def make_tokenizer_json(tokenizer: ByteLevelTokenizer, added: Sequence[NewToken]) -> str:
    """Return the content of a tokenizer.json with the new tokens at its end. All existing ids stay the same."""
    backend = Backend.from_str(json.dumps(tokenizer.description))
    for token in added:
        entry = AddedToken(token.text, special=token.is_special, normalized=False)
        (backend.add_special_tokens if token.is_special else backend.add_tokens)([entry])
    return backend.to_str(pretty=True)


def extend_rows(source: ModelSource, name: str, first: int, rows: int, pieces: Sequence[Ids]) -> torch.Tensor:
    """Return a parameter [rows, H] in which row `first` + n is the mean (in fp32) of the existing rows `pieces[n]`."""
    weight = source.weights[name][: source.vocab_rows]
    extended = torch.cat([weight, weight.new_zeros(rows - weight.shape[0], weight.shape[1])])
    means = {ids: weight[list(ids)].float().mean(0).to(weight.dtype) for ids in set(pieces)}
    for number, ids in enumerate(pieces):
        extended[first + number] = means[ids]
    return extended


def read_tokens(path: Path) -> list[NewToken]:
    """Return the tokens in a file: one token per line, or in JSON a list of texts or of {"content": TEXT, "special": true}.

    Raise DataError for other content and for an empty token.
    """
    if path.suffix == ".json":
        content = read_json(path)
        entries = content if isinstance(content, list) else [None]
    else:
        try:
            entries = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}). Check the path.") from None
    tokens = []
    for number, entry in enumerate(entries, 1):
        text, is_special = (entry.get("content"), entry.get("special", False)) if isinstance(entry, dict) else (entry, False)
        if not isinstance(text, str) or not text or not isinstance(is_special, bool):
            raise DataError(
                f'{path}, token {number}, must be a text or {{"content": TEXT, "special": true}}, and is {entry!r:.80}.'
            )
        tokens.append(NewToken(text, is_special))
    if not 0 < len(tokens) <= MOST_TOKENS:
        raise DataError(f"{path} has {len(tokens):,} tokens. Give 1 to {MOST_TOKENS:,} tokens.")
    return tokens
