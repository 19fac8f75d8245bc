"""Write a tokenizer as `transformers.AutoTokenizer` reads it: tokenizer.json or tokenizer.model, and tokenizer_config.json.

    write_tokenizer(tokenizer, config.data, 2048, Path("model"))

The ids are the same as here, with one exception. If a text contains the name of a special token, transformers encodes the name as
the special id, and this package encodes it as ordinary text.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, normalizers
from tokenizers import Tokenizer as Backend

from neox_code.checkpoint.model_folder import SENTENCEPIECE_MODEL
from neox_code.config.data import DataConfig
from neox_code.files import write_json
from neox_code.logs import get_logger
from neox_code.tokenizer.byte_level import SPECIAL_TOKENS, ByteLevelTokenizer
from neox_code.tokenizer.infilling import find_infilling_tokens
from neox_code.tokenizer.newlines import choose_default_newlines
from neox_code.tokenizer.protocol import END_OF_DOCUMENT, PADDING, Tokenizer
from neox_code.tokenizer.registry import is_lossless
from neox_code.tokenizer.sentencepiece import SPMTokenizer
from neox_code.tokenizer.vocabulary_file import TOKENIZER_JSON

log = get_logger(__name__)

TOKENIZER_CONFIG = "tokenizer_config.json"

LLAMA_TOKENIZER = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": False, "add_eos_token": False}
"""Keys of tokenizer_config.json with which transformers encodes as SentencePiece does and adds no special tokens."""


def write_tokenizer(tokenizer: Tokenizer | None, section: DataConfig, max_length: int, folder: Path) -> None:
    """Write the files of a byte-level tokenizer, or of a SentencePiece model of type BPE that changes no text.

    No file is written for other tokenizers, because their ids would differ in transformers; the reason is logged.
    """
    if isinstance(tokenizer, SPMTokenizer) and tokenizer.is_byte_pair_model and is_lossless(tokenizer) and section.vocab_file:
        shutil.copyfile(section.vocab_file, folder / SENTENCEPIECE_MODEL)
        names = tokenizer.decode([tokenizer.eod_id]), tokenizer.decode([tokenizer.pad_id])
        write_json(folder / TOKENIZER_CONFIG, make_common_config(*names, max_length) | LLAMA_TOKENIZER)
        return
    if not isinstance(tokenizer, ByteLevelTokenizer):
        reason = f"{section.tokenizer_type} would have other ids in transformers" if tokenizer else "no tokenizer is configured"
        log.warning("%s: no tokenizer is written. Encode text with ./deepy.py, or with the tokenizer's own library", reason)
        return
    backend = build_backend(tokenizer, section.newlines or choose_default_newlines(tokenizer))
    (folder / TOKENIZER_JSON).write_text(backend.to_str(pretty=True), encoding="utf-8")
    write_json(folder / TOKENIZER_CONFIG, make_tokenizer_config(backend, max_length))


def build_backend(tokenizer: ByteLevelTokenizer, newlines: str) -> Backend:
    """Return the tokenizer for transformers. Special tokens are marked, and line ends are converted if no token has a CR."""
    backend = Backend.from_str(json.dumps(tokenizer.description))
    vocabulary = backend.get_vocab()
    names = [name for name in SPECIAL_TOKENS if name in vocabulary] + list(find_infilling_tokens(vocabulary).values())
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if newlines == "lf":
        own = [backend.normalizer] if backend.normalizer else []
        backend.normalizer = normalizers.Sequence([normalizers.Replace("\r\n", "\n"), normalizers.Replace("\r", "\n"), *own])
    return backend


def make_tokenizer_config(backend: Backend, max_length: int) -> dict[str, Any]:
    """Return the content of tokenizer_config.json for a byte-level vocabulary."""
    vocabulary = backend.get_vocab()
    splitting = json.loads(backend.to_str())["pre_tokenizer"] or {}
    return make_common_config(END_OF_DOCUMENT, PADDING if PADDING in vocabulary else END_OF_DOCUMENT, max_length) | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": END_OF_DOCUMENT,
        "extra_special_tokens": find_infilling_tokens(vocabulary),
        "add_prefix_space": bool(splitting.get("add_prefix_space")),
    }


def make_common_config(end: str, padding: str, max_length: int) -> dict[str, Any]:
    """Return the keys that all tokenizers share: the names of the special tokens, and a setting that keeps all spaces."""
    return {
        "bos_token": end,
        "eos_token": end,
        "pad_token": padding,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
