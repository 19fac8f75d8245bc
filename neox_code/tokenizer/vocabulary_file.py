"""How many entries a vocabulary file has, by its JSON alone: no tokenizer is built, and no library is imported for it.

vocabulary_entries("GPT2BPETokenizer", "data/code/code-vocab.json")      # 50257
"""

from pathlib import Path
from typing import Any

from neox_code.errors import DataError
from neox_code.files import read_json

CHARACTERS = 512
"""Of CharLevelTokenizer, which has no file."""


def vocabulary_entries(tokenizer_type: str, vocab_file: str | None) -> int | None:
    """What the tokenizer's `vocab_size` will be; None for a file that is not there, not JSON, or says nothing of it."""
    if tokenizer_type == "CharLevelTokenizer":
        return CHARACTERS
    if vocab_file is None or tokenizer_type not in ("GPT2BPETokenizer", "HFTokenizer") or not Path(vocab_file).is_file():
        return None
    try:
        content = read_json(vocab_file)
    except DataError:
        return None
    if not isinstance(content, dict):
        return None
    return len(content if tokenizer_type == "GPT2BPETokenizer" else entries(content)) or None


def entries(description: dict[str, Any]) -> set[str]:
    """The entries of a tokenizer.json: its model's, and those that were added."""
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = {token["content"] for token in description.get("added_tokens") or () if isinstance(token, dict) and "content" in token}
    return {*vocabulary, *added} if isinstance(vocabulary, dict) else set()
