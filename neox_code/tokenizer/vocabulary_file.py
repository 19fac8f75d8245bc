"""Count the entries of a vocabulary file in its JSON, without building a tokenizer or importing its library.

count_vocabulary_entries("GPT2BPETokenizer", "data/code/code-vocab.json")      # 50257
"""

from pathlib import Path
from typing import Any

from neox_code.errors import DataError
from neox_code.files import read_json

CHAR_LEVEL_ENTRIES = 512
"""Entries of CharLevelTokenizer, which has no vocabulary file."""


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
    """Return the entries of a tokenizer.json: the vocabulary of its model and the added tokens."""
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = {token["content"] for token in description.get("added_tokens") or () if isinstance(token, dict) and "content" in token}
    return {*vocabulary, *added} if isinstance(vocabulary, dict) else set()
