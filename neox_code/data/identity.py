"""Compute the identity of training data: a few values that change when the token files change. Imports no torch.

    identity = read_data_identity(config.data)          # on rank 0: reads the whole .idx and a sample of the .bin of every file
    list_data_changes(stored, identity)                 # ["train_data_paths[0]: tokens 1,200 -> 1,300 (data/code_text_document)"]

The tokenizer of a token file is read from PREFIX.tokens.json (see `write_record`) or from the tokens.json of a corpus. Token files
of other programs have neither file.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neox_code.config.data import DataConfig
from neox_code.data.indexed_dataset import IndexedDataset, get_bin_path, get_idx_path, get_record_path
from neox_code.errors import DataError
from neox_code.files import hash_file, read_json, write_json

SAMPLE_BLOCKS, SAMPLE_BLOCK_BYTES = 64, 2**14
"""Number and bytes of the blocks of a .bin file that are hashed. They are at equal distances; a small file is hashed whole."""

DATA_KEYS = ("data_path", "train_data_paths", "valid_data_paths", "test_data_paths")
ROW_KEYS = ("train_rows", "valid_rows", "test_rows")
"""Keys of files of rows, whose identity is in the same form (neox_code/finetuning/token_rows.py)."""

WEIGHT_KEYS = ("train_data_weights", "valid_data_weights", "test_data_weights")


def read_data_identity(data: DataConfig) -> dict[str, Any]:
    """Return the identity of the data that a configuration trains on, as JSON values.

        {"sample_order": "per_epoch", "split": [969, 30, 1], "weights": {"train_data_weights": [2.0, 1.0]},
         "files": {"train_data_paths": [
            {"path", "bytes", "documents", "tokens", "idx_sha256", "bin_sample_sha256", "tokenizer_sha256"}]}}

    `split` is None unless `data_path` is set. `weights` holds the keys that the configuration sets. `tokenizer_sha256` is None if
    the tokenizer is not recorded. A missing file has only its path. Raise DataError for a damaged file.
    """
    files = {}
    for key in DATA_KEYS:
        value = getattr(data, key)
        paths = value if isinstance(value, tuple) else (value,)
        if described := [read_file_identity(path) for path in paths if path]:
            files[key] = described
    weights = {key: list(getattr(data, key)) for key in WEIGHT_KEYS if getattr(data, key)}
    split = list(data.split) if data.data_path else None
    return {"sample_order": data.sample_order, "split": split, "weights": weights, "files": files}


def read_file_identity(prefix: str) -> dict[str, Any]:
    """Return path, size, counts, hashes and tokenizer of one token file."""
    if not (get_bin_path(prefix).exists() or get_idx_path(prefix).exists()):
        return {"path": prefix}
    dataset = IndexedDataset(prefix)
    record = read_record(dataset)
    return {
        "path": prefix,
        "bytes": dataset.num_bytes,
        **dataset.counts(),
        "idx_sha256": hash_idx(prefix),
        "bin_sample_sha256": hash_bin_sample(prefix),
        "tokenizer_sha256": (record.get("tokenizer") or {}).get("sha256"),
    }


def hash_idx(prefix: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of PREFIX.idx."""
    return hash_file(get_idx_path(prefix))


def hash_bin_sample(prefix: str | os.PathLike[str]) -> str:
    """Return the SHA-256 over the size of PREFIX.bin and over sampled blocks, with the first and last block of the file."""
    with get_bin_path(prefix).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        if size <= SAMPLE_BLOCKS * SAMPLE_BLOCK_BYTES:
            digest.update(file.read())
        else:
            for block in range(SAMPLE_BLOCKS):
                file.seek(block * (size - SAMPLE_BLOCK_BYTES) // (SAMPLE_BLOCKS - 1))
                digest.update(file.read(SAMPLE_BLOCK_BYTES))
    return digest.hexdigest()


def write_record(prefix: str | os.PathLike[str], tokenizer: Mapping[str, Any] | None, max_id: int | None) -> None:
    """Write PREFIX.tokens.json for a complete pair PREFIX.bin and PREFIX.idx: tokenizer, highest id, counts and hash.

    `tokenizer` is the result of `tokenizer.comparison.describe_vocabulary`, or None for an unknown tokenizer.
    """
    counts = IndexedDataset(prefix).counts()
    record = {"tokenizer": dict(tokenizer) if tokenizer else None, "max_id": max_id, **counts}
    write_json(get_record_path(prefix), record | {"bin_sample_sha256": hash_bin_sample(prefix)})


def read_record(dataset: IndexedDataset) -> dict[str, Any]:
    """Return the record of a token file with `tokenizer` (its identity) and `max_id`; {} if there is no valid record.

    A record is not valid if the token file was replaced after the record was written.
    """
    try:
        record = read_json(get_record_path(dataset.prefix))
        expected = dataset.counts() | {"bin_sample_sha256": hash_bin_sample(dataset.prefix)}
        if all(record.get(key) == value for key, value in expected.items()):
            return {"tokenizer": record.get("tokenizer"), "max_id": record.get("max_id")}
    except (AttributeError, DataError, OSError):
        pass
    return read_corpus_record(dataset)


def read_corpus_record(dataset: IndexedDataset) -> dict[str, Any]:
    """Return the tokenizer in the corpus's tokens.json; {} if no tokens.json has the counts of the token file.

    tokens.json describes train_Python_text_document; code_tokens.json describes code_train_text_document.
    """
    path = Path(dataset.prefix)
    for match in re.finditer(r"(?:^|(?<=_))(?=(train|valid|test)_(?:(.+)_)?text_document$)", path.name):
        try:
            summary = read_json(path.with_name(f"{path.name[: match.start()]}tokens.json"))
            languages = summary["splits"][match[1]]
            counted = [languages[match[2]]] if match[2] else list(languages.values())
            documents, tokens = (sum(count[key] for count in counted) for key in ("documents", "tokens"))
            found = dataset.counts()
            if found["documents"] == documents and found["tokens"] - tokens in (0, documents):  # with or without end-of-document
                return {"tokenizer": summary["tokenizer"], "max_id": None}
        except (AttributeError, DataError, KeyError, OSError, TypeError):
            continue
    return {}


def list_data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a text for each difference between two results of `read_data_identity`. Paths are not compared.

    >>> old = {"sample_order": "per_epoch", "split": None, "weights": {}, "files": {"data_path": [{"path": "a", "tokens": 1200}]}}
    >>> new = old | {"split": [9, 1, 0], "files": {"data_path": [{"path": "b", "tokens": 1300}]}}
    >>> list_data_changes(old, new)
    ['split: None -> [9, 1, 0]', 'data_path[0] (b): tokens 1,200 -> 1,300']
    """
    keys = ("sample_order", "split", "weights")
    changes = [f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys if before.get(key) != now.get(key)]
    for key in (*DATA_KEYS, *ROW_KEYS):
        old, new = before.get("files", {}).get(key, []), now.get("files", {}).get(key, [])
        if len(old) != len(new):
            changes.append(f"{key}: {len(old)} files -> {len(new)}")
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            fields = [field for field in one.keys() | other.keys() if field != "path" and one.get(field) != other.get(field)]
            if fields:
                field = min(fields, key=FIELDS_BY_MEANING.index)
                place = f"{key}[{index}] ({other['path']})"
                changes.append(
                    f"{place}: {field} {format_identity_value(one.get(field))} -> {format_identity_value(other.get(field))}"
                )
    return changes


FIELDS_BY_MEANING = ("tokenizer_sha256", "tokens", "documents", "bytes", "idx_sha256", "bin_sample_sha256", "sha256")
"""Fields of a file's identity in the order of comparison. If several fields differ, only the first is reported."""


def format_identity_value(value: Any) -> str:
    """Return a count with separators, the first digits of a hash, or "unknown" for None."""
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else str(value)[:12]
