"""Add tokens to a vocabulary. In a model the row of a new token is computed from existing rows, which stay unchanged.

    tokens = [NewToken("    "), NewToken("<|fim_prefix|>", is_special=True)]
    extended = extend_vocabulary(source, tokens, choose_piece_ids, folder)        # a model; its vocabulary is written into folder
    keys = write_extended_vocabulary(make_extensible(tokenizer), tokens, folder)  # a vocabulary alone

An ordinary token is used wherever its text occurs, before the text is split and merged. A special token is never made from text.
A SentencePiece model stays one; all other vocabularies become a tokenizer.json.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from neox_code.checkpoint.model_folder import SENTENCEPIECE_MODEL
from neox_code.checkpoint.weights import LazyWeights
from neox_code.config.data import DataConfig
from neox_code.conversion.gguf_vocabulary import CONTROL, USER_DEFINED
from neox_code.conversion.source import ModelSource
from neox_code.errors import ConversionError, DataError
from neox_code.files import read_json
from neox_code.logs import get_logger
from neox_code.model.sharding import get_sharding
from neox_code.tokenizer.byte_level import ByteLevelTokenizer
from neox_code.tokenizer.byte_level_copy import copy_to_byte_level
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.tokenizer.sentencepiece import SPACE, SPMTokenizer
from neox_code.tokenizer.tiktoken_encoding import ENCODINGS, TiktokenTokenizer
from neox_code.tokenizer.train_bpe import WHITESPACE_TOKENS
from neox_code.tokenizer.vocabulary_file import GPT2_FILES, TOKENIZER_JSON

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
Extensible = ByteLevelTokenizer | SPMTokenizer
RowRule = Callable[[Extensible, NewToken], Ids]
"""Function that returns existing ids for a new token. The new token's row is the mean of the rows of these ids."""


def choose_piece_ids(tokenizer: Extensible, token: NewToken) -> Ids:
    """Return the ids into which the existing vocabulary encodes the token's text."""
    return tuple(tokenizer.encode(token.text))


def choose_all_ids(tokenizer: Extensible, token: NewToken) -> Ids:
    """Return all ids of the existing vocabulary."""
    return range(tokenizer.vocab_size)


def choose_token_id(text: str, tokenizer: Extensible, token: NewToken) -> Ids:
    """Return the id of the token with this text. Raise ConversionError if the vocabulary has none."""
    if len(ids := tokenizer.encode(text)) == 1 and tokenizer.bytes_of_id[ids[0]] == text.encode():
        return tuple(ids)
    if text.encode() in tokenizer.bytes_of_id:
        return (tokenizer.bytes_of_id.index(text.encode()),)
    remedy = "Choose a token of the vocabulary, or use the mean of pieces."
    raise ConversionError(f"{text!r} is not a token of {tokenizer.identity['vocab_file']}. {remedy}")


def extend_vocabulary(source: ModelSource, tokens: Sequence[NewToken], rule: RowRule, folder: Path) -> ModelSource:
    """Return the model with the new tokens, and write its vocabulary into `folder`.

    Tokens that the vocabulary already has are skipped and logged. The new tokens take the padding rows of the vocabulary first.
    Raise ConversionError if the model has no vocabulary, or if the vocabulary already has all tokens.
    """
    if source.tokenizer is None:
        raise ConversionError(f"{source.folder} has no vocabulary. Set vocab_file in its configuration.")
    tokenizer = make_extensible(source.tokenizer)
    added = choose_new_tokens(tokenizer, tokens)
    keys = write_extended_vocabulary(tokenizer, added, folder)
    pieces = [rule(tokenizer, token) for token in added]
    rows = max(source.vocab_rows, tokenizer.vocab_size + len(added))
    readers = {
        name: partial(extend_rows, source, name, tokenizer.vocab_size, rows, pieces)
        if get_sharding(name).is_vocabulary
        else partial(source.weights.__getitem__, name)
        for name in source.weights
    }
    config = source.config.replace(**keys, merge_file=None, merge_file_reader="whole")
    ids = f"{tokenizer.vocab_size:,} to {tokenizer.vocab_size + len(added) - 1:,}"
    log.info("%d new tokens have the ids %s; the model now has %s vocabulary rows", len(added), ids, f"{rows:,}")
    return replace(source, config=config, weights=LazyWeights(readers), record=None)


def make_extensible(tokenizer: Tokenizer) -> Extensible:
    """Return the vocabulary in a form that can get new tokens, with the same ids for every text."""
    if isinstance(tokenizer, ByteLevelTokenizer | SPMTokenizer):
        return tokenizer
    assert isinstance(tokenizer, TiktokenTokenizer | CharLevelTokenizer)
    return copy_to_byte_level(tokenizer)


def write_extended_vocabulary(tokenizer: Extensible, added: Sequence[NewToken], folder: Path) -> dict[str, str]:
    """Write the vocabulary with the new tokens at its end into the folder. Return tokenizer_type and vocab_file."""
    if isinstance(tokenizer, SPMTokenizer):
        path = folder / SENTENCEPIECE_MODEL
        path.write_bytes(make_sentencepiece_model(tokenizer, added))
        return {"tokenizer_type": "SPMTokenizer", "vocab_file": str(path)}
    path = folder / TOKENIZER_JSON
    path.write_text(make_tokenizer_json(tokenizer, added), encoding="utf-8")
    return {"tokenizer_type": "HFTokenizer", "vocab_file": str(path)}


def make_sentencepiece_model(tokenizer: SPMTokenizer, added: Sequence[NewToken]) -> bytes:
    """Return a SentencePiece model with the new tokens as its last pieces: user-defined, or control symbols if they are special."""
    model = ModelProto.FromString(Path(tokenizer.identity["vocab_file"]).read_bytes())
    for token in added:
        if SPACE in token.text and not token.is_special:
            raise ConversionError(f"{token.text!r} has U+2581, which SentencePiece reads as a space. Remove this token.")
        name, kind = (token.text, CONTROL) if token.is_special else (token.text.replace(" ", SPACE), USER_DEFINED)
        model.pieces.add(piece=name, score=0.0, type=kind)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model.SerializeToString()


def choose_new_tokens(tokenizer: Extensible, tokens: Sequence[NewToken]) -> list[NewToken]:
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


def find_vocabulary(path: Path) -> Tokenizer | None:
    """Return the tokenizer of a vocabulary without a model; None if there is none.

    `path` is a tokenizer.json, a vocab.json with its merges.txt beside it, a .model or .tiktoken file, a folder with one of them,
    the name of an encoding of tiktoken, or CharLevelTokenizer.
    """
    if path.is_dir():
        found = (
            file for pattern in (TOKENIZER_JSON, "*vocab.json", "*.model", "*.tiktoken") for file in sorted(path.glob(pattern))
        )
        path = next(found, path)
    keys: dict[str, Any] = {"tokenizer_type": "HFTokenizer", "vocab_file": str(path)}
    if path.name.endswith(GPT2_FILES[0]):
        merges = path.with_name(path.name.removesuffix(GPT2_FILES[0]) + GPT2_FILES[1])
        keys |= {"tokenizer_type": "GPT2BPETokenizer", "merge_file": str(merges)}
    elif path.suffix == ".model":
        keys["tokenizer_type"] = "SPMTokenizer"
    elif path.suffix == ".tiktoken" or (not path.exists() and str(path) in ENCODINGS):
        keys["tokenizer_type"] = "TiktokenTokenizer"
    elif str(path) == "CharLevelTokenizer":
        keys = {"tokenizer_type": "CharLevelTokenizer"}
    elif path.suffix != ".json" or not path.is_file():
        return None
    return build_tokenizer(DataConfig(**keys))


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
