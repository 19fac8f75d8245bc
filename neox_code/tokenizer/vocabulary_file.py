"""Find the files of a vocabulary and count its entries, without building a tokenizer or importing a library.

find_vocabulary_files(config.data)                                             # {"code-vocab.json": Path(...), ...}
count_vocabulary_entries("GPT2BPETokenizer", "data/code/code-vocab.json")      # 50257
"""

import os
from pathlib import Path
from typing import Any

from neox_code.errors import DataError
from neox_code.files import read_json
from neox_code.tokenizer.protocol import TokenizerSection

TOKENIZER_JSON = "tokenizer.json"
GPT2_FILES = ("vocab.json", "merges.txt")
VERSION = "#version"

CHAR_LEVEL_ENTRIES = 512
"""Number of entries of CharLevelTokenizer, which has no vocabulary file."""


def count_vocabulary_entries(tokenizer_type: str, vocab_file: str | None) -> int | None:
    """Return the `vocab_size` that the tokenizer will have; None if the file is missing, is not JSON or has no vocabulary."""
    if tokenizer_type == "CharLevelTokenizer":
        return CHAR_LEVEL_ENTRIES
    if vocab_file is None or tokenizer_type not in ("GPT2BPETokenizer", "HFTokenizer") or not Path(vocab_file).is_file():
        return None
    try:
        content = read_json(vocab_file)
    except DataError:
        return None
    if not isinstance(content, dict):
        return None
    return len(content if tokenizer_type == "GPT2BPETokenizer" else read_entries(content)) or None


def read_entries(description: dict[str, Any]) -> set[str]:
    """Return the tokens of a tokenizer.json: the vocabulary of its model, and the added tokens."""
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = {token["content"] for token in description.get("added_tokens") or () if isinstance(token, dict) and "content" in token}
    return {*vocabulary, *added} if isinstance(vocabulary, dict) else set()


def find_vocabulary_files(section: TokenizerSection) -> dict[str, Path]:
    """Return unique file name -> file of the configured tokenizer; {} for a published encoding of tiktoken, which has no file."""
    if section.tokenizer_type == "CharLevelTokenizer" or section.vocab_file is None:
        return {}
    path = Path(section.vocab_file)
    paths = [path / name for name in (TOKENIZER_JSON, *GPT2_FILES)] if path.is_dir() else [path]
    files = {path.name: path for path in paths if path.is_file()}
    if section.tokenizer_type == "GPT2BPETokenizer" and section.merge_file:
        merges = Path(section.merge_file)
        files[merges.name if merges.name not in files else f"merges-{merges.name}"] = merges
    return files


def has_version_line(path: str | os.PathLike[str]) -> bool:
    """Return True if a merge file begins with the `#version` line that GPT-NeoX's reader expects; False if the file is missing."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(VERSION)) == VERSION.encode()
    except OSError:
        return False
