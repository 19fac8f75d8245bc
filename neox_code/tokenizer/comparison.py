"""Compare a recorded vocabulary with that of a tokenizer. They are equal if each id has the same bytes in both.

    recorded = describe_vocabulary(tokenizer)             # JSON values, stored with token files and weights
    compare_vocabulary(recorded, other)                   # "same", "same ids", "other" or "unknown"

The hash of an identity covers files and settings, so it differs between a tokenizer.json and the vocab.json and merges.txt of the
same vocabulary. `ids_sha256` covers the bytes of each id and is equal for both.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from neox_code.errors import DataError
from neox_code.tokenizer.protocol import Tokenizer

Comparison = Literal["same", "same ids", "other", "unknown"]


def describe_vocabulary(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the tokenizer's identity, its number of ids and the hash of their bytes."""
    return {**tokenizer.identity, "vocab_size": tokenizer.vocab_size, "ids_sha256": hash_ids(tokenizer, tokenizer.vocab_size)}


def hash_ids(tokenizer: Tokenizer, count: int) -> str:
    """Return the SHA-256 over the ids below `count` in order: for each id the length of its bytes, then the bytes."""
    digest = hashlib.sha256()
    for token_id in range(count):
        data = read_id_bytes(tokenizer, token_id)
        digest.update(len(data).to_bytes(4, "little") + data)
    return digest.hexdigest()


def read_id_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """Return the bytes of an id; a name for an id that stands for nothing, as some encodings of tiktoken have them."""
    try:
        return tokenizer.decode_bytes([token_id])
    except DataError:
        return f"<|unused_{token_id}|>".encode()


def compare_vocabulary(recorded: Mapping[str, Any], tokenizer: Tokenizer) -> Comparison:
    """Compare a vocabulary recorded by `describe_vocabulary` with the tokenizer's, and return one of these results.

    same      equal files and settings: every text is encoded to the same ids
    same ids  each recorded id stands for the same bytes (the tokenizer may have more ids); a text may be encoded differently
    other     at least one id stands for other bytes
    unknown   the record has another tokenizer_type and no `ids_sha256`, like records of older versions
    """
    own = tokenizer.identity
    if recorded.get("sha256") == own["sha256"]:
        return "same"
    count, ids_hash = recorded.get("vocab_size"), recorded.get("ids_sha256")
    if isinstance(count, int) and ids_hash is not None:
        is_same = count <= tokenizer.vocab_size and hash_ids(tokenizer, count) == ids_hash
        return "same ids" if is_same else "other"
    return "other" if recorded.get("tokenizer_type") == own["tokenizer_type"] else "unknown"


def compare_records(one: Mapping[str, Any], other: Mapping[str, Any]) -> Comparison:
    """Compare two recorded vocabularies; return a result of `compare_vocabulary`. Vocabularies of different size are "other".

    >>> compare_records({"sha256": "ab", "ids_sha256": "cd"}, {"sha256": "ef", "ids_sha256": "cd"})
    'same ids'
    """
    if one.get("sha256") == other.get("sha256"):
        return "same"
    if one.get("ids_sha256") and other.get("ids_sha256"):
        return "same ids" if one["ids_sha256"] == other["ids_sha256"] else "other"
    return "other" if one.get("tokenizer_type") == other.get("tokenizer_type") else "unknown"


def name_vocabulary(identity: Mapping[str, Any]) -> str:
    """Return a tokenizer's type, files and hash for use in an error message.

    >>> name_vocabulary({"tokenizer_type": "HFTokenizer", "vocab_file": "code.json", "sha256": "ab34567890123"})
    'HFTokenizer code.json (sha256 ab3456789012)'
    """
    files = [str(identity[key]) for key in ("vocab_file", "merge_file") if identity.get(key)]
    reader = identity.get("merge_file_reader")
    details = [f"merge_file_reader {reader}"] if reader else []
    details.append(f"sha256 {str(identity.get('sha256'))[:12]}")
    return f"{' '.join([str(identity.get('tokenizer_type')), *files])} ({', '.join(details)})"
