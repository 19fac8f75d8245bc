"""The identity of data changes with its content, and with nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from neox_code.config.data import DataConfig
from neox_code.data.identity import (
    SAMPLE_BLOCK_BYTES,
    SAMPLE_BLOCKS,
    hash_bin_sample,
    list_data_changes,
    read_data_identity,
    read_record,
    write_record,
)
from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter, get_record_path
from neox_code.errors import DataError


def write(prefix: Path, documents: list[list[int]]) -> str:
    with IndexedDatasetWriter(prefix, np.uint16) as writer:
        for ids in documents:
            writer.add_document(ids)
    return str(prefix)


def test_a_copy_at_another_path_has_the_same_identity(tmp_path: Path) -> None:
    first = DataConfig(data_path=write(tmp_path / "one", [[1, 2], [3]]))
    for suffix in (".bin", ".idx"):
        shutil.copyfile(tmp_path / f"one{suffix}", tmp_path / f"two{suffix}")
    before, now = read_data_identity(first), read_data_identity(DataConfig(data_path=str(tmp_path / "two")))
    assert json.loads(json.dumps(before)) == before
    assert before["files"]["data_path"][0]["documents"] == 2
    assert list_data_changes(json.loads(json.dumps(before)), now) == []


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([[1, 2], [3], [4]], "tokens 3 -> 4"),
        ([[1], [2], [3]], "documents 2 -> 3"),
        ([[1], [2, 3]], "idx_sha256"),
        ([[1, 2], [4]], "bin_sample_sha256"),
    ],
)
def test_a_replaced_token_file_has_another_identity(tmp_path: Path, documents: list[list[int]], message: str) -> None:
    data = DataConfig(train_data_paths=(write(tmp_path / "one", [[1, 2], [3]]),))
    before = read_data_identity(data)
    write(tmp_path / "one", documents)
    (change,) = list_data_changes(before, read_data_identity(data))
    assert change.startswith(f"train_data_paths[0] ({tmp_path}/one): {message}")


def test_shares_weights_and_number_of_files_belong_to_the_data(tmp_path: Path) -> None:
    path = write(tmp_path / "one", [[1, 2], [3]])
    two = read_data_identity(DataConfig(train_data_paths=(path, path), train_data_weights=(1.0, 2.0)))
    assert list_data_changes(two, read_data_identity(DataConfig(train_data_paths=(path, path), train_data_weights=(1.0, 3.0)))) == [
        "weights: {'train_data_weights': [1.0, 2.0]} -> {'train_data_weights': [1.0, 3.0]}"
    ]
    changes = list_data_changes(two, read_data_identity(DataConfig(data_path=path, split=(9, 1))))
    assert [change.split(":")[0] for change in changes] == ["split", "weights", "data_path", "train_data_paths"]


def test_a_missing_file_has_only_its_path_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    assert read_data_identity(DataConfig(data_path="nowhere"))["files"] == {"data_path": [{"path": "nowhere"}]}
    path = write(tmp_path / "one", [[1, 2], [3]])
    (tmp_path / "one.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"one\.bin has 0 bytes"):
        read_data_identity(DataConfig(data_path=path))


@pytest.mark.parametrize("place", [0, SAMPLE_BLOCK_BYTES * SAMPLE_BLOCKS * 2 - 1])
def test_the_ends_of_a_large_file_are_in_its_hash(tmp_path: Path, place: int) -> None:
    content = bytearray(SAMPLE_BLOCK_BYTES * SAMPLE_BLOCKS * 2)
    (tmp_path / "large.bin").write_bytes(content)
    before = hash_bin_sample(tmp_path / "large")
    content[place] = 1
    (tmp_path / "large.bin").write_bytes(content)
    assert hash_bin_sample(tmp_path / "large") != before


def test_a_record_is_read_until_the_pair_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "one", [[1, 2], [3]])
    write_record(path, {"sha256": "ab"}, 3)
    assert read_record(IndexedDataset(path)) == {"tokenizer": {"sha256": "ab"}, "max_id": 3}
    kept = get_record_path(path).read_bytes()
    write(tmp_path / "one", [[1, 2], [4]])
    assert not get_record_path(path).exists()
    get_record_path(path).write_bytes(kept)
    assert read_record(IndexedDataset(path)) == {}
    get_record_path(path).write_text("[")
    assert read_record(IndexedDataset(path)) == {}


@pytest.mark.parametrize(
    ("name", "summary", "documents"),
    [
        ("code_train_text_document", "code_tokens.json", [[1, 2, 0], [3, 0], [4, 0]]),
        ("train_text_document", "tokens.json", [[1, 2], [3], [4]]),
        ("a_train_b_train_C++_text_document", "a_train_b_tokens.json", [[4, 0]]),
    ],
)
def test_the_tokenizer_of_a_corpus_is_read_from_its_tokens_file(
    tmp_path: Path, name: str, summary: str, documents: list[list[int]]
) -> None:
    counts = {"Python": {"documents": 2, "tokens": 3}, "C++": {"documents": 1, "tokens": 1}}
    record = {"tokenizer": {"sha256": "ab"}, "splits": {"train": counts, "valid": counts}}
    (tmp_path / summary).write_text(json.dumps(record))
    path = write(tmp_path / name, documents)
    assert read_record(IndexedDataset(path))["tokenizer"] == {"sha256": "ab"}
    assert read_data_identity(DataConfig(data_path=path))["files"]["data_path"][0]["tokenizer_sha256"] == "ab"
    write(tmp_path / name, [[1, 2, 3, 4, 5, 6, 7, 8, 0]])
    assert read_record(IndexedDataset(path)) == {}
