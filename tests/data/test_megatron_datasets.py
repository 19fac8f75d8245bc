"""Samples against the token file they are cut from."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from neox_code.config.data import DataConfig
from neox_code.data.indexed_dataset import IndexedDatasetWriter
from neox_code.data.megatron_datasets import INDICES, build_datasets
from neox_code.errors import DataError


class Vocabulary:
    """The facts that datasets ask of a tokenizer."""

    vocab_size, eod_id, pad_id, identity = 1000, 0, 1, {"type": "test"}


def write(prefix: Path, documents: list[list[int]]) -> str:
    with IndexedDatasetWriter(prefix, np.uint16) as writer:
        for ids in documents:
            writer.add_document(ids)
    return str(prefix)


def test_an_epoch_holds_every_token_of_the_shuffled_documents(tmp_path):
    documents = [[10 * number + place + 2 for place in range(9)] + [0] for number in range(40)]
    data = DataConfig(train_data_paths=(write(tmp_path / "train", documents),))
    train, valid, test = build_datasets(data, 21, (18, 0, 0), Vocabulary(), 1, tmp_path / "cache")
    assert (valid, test) == (None, None)
    read = Counter()
    for sample in train:
        tokens, labels = sample["tokens"].tolist(), sample["labels"].tolist()
        assert tokens[1:] == labels[:-1]
        assert sample["loss_mask"].min() == 1
        read.update(tokens)
    written = Counter(token for ids in documents for token in ids)
    assert (written - read).total() == 400 - 19 * 21
    assert not read - written


def test_the_loss_leaves_out_what_follows_no_document_when_asked(tmp_path):
    data = DataConfig(train_data_paths=(write(tmp_path / "train", [[5, 6, 7, 0]] * 30),), eod_mask_loss=True)
    train, _, _ = build_datasets(data, 8, (4, 0, 0), Vocabulary(), 1, None)
    sample = train[0]
    assert (sample["loss_mask"] == (sample["tokens"] != 0)).all()


def test_weights_decide_how_often_a_file_is_read(tmp_path):
    paths = (write(tmp_path / "a", [[2] * 50] * 20), write(tmp_path / "b", [[3] * 50] * 20))
    data = DataConfig(train_data_paths=paths, train_data_weights=(3.0, 1.0))
    train, _, _ = build_datasets(data, 16, (40, 0, 0), Vocabulary(), 1, None)
    first = [int(train[index]["tokens"][0]) for index in range(40)]
    assert first.count(2) == pytest.approx(30, abs=1)


def test_shares_of_one_file_do_not_overlap(tmp_path):
    documents = [[number + 2] * 9 + [0] for number in range(100)]
    data = DataConfig(data_path=write(tmp_path / "all", documents), split=(80, 10, 10))
    parts = build_datasets(data, 9, (70, 8, 8), Vocabulary(), 1, None)
    tokens = [{int(token) for sample in part for token in sample["tokens"]} - {0} for part in parts]
    assert tokens[0] <= set(range(2, 82))
    assert tokens[1] <= set(range(82, 92))
    assert tokens[2] <= set(range(92, 102))


def test_a_cache_that_a_killed_run_left_is_made_anew(tmp_path):
    data = DataConfig(train_data_paths=(write(tmp_path / "train", [[5, 6, 7, 0]] * 30),))
    expected = build_datasets(data, 8, (4, 0, 0), Vocabulary(), 1, tmp_path / "cache")[0][0]["tokens"]
    indices = tmp_path / "cache" / INDICES
    (indices / "complete").unlink()
    for index in indices.glob("*.npy"):
        index.write_bytes(b"")
    again = build_datasets(data, 8, (4, 0, 0), Vocabulary(), 1, tmp_path / "cache")[0][0]["tokens"]
    assert again.tolist() == expected.tolist()


def test_what_else_lies_in_the_cache_folder_stays(tmp_path):
    data = DataConfig(train_data_paths=(write(tmp_path / "train", [[5, 6, 7, 0]] * 30),))
    (tmp_path / "notes.txt").write_text("mine")
    build_datasets(data, 8, (4, 0, 0), Vocabulary(), 1, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "train.bin", "train.idx", INDICES}


def test_nothing_is_written_without_a_cache_folder(tmp_path, capfd):
    paths = (write(tmp_path / "a", [[2] * 50] * 20), write(tmp_path / "b", [[3] * 50] * 20))
    train, _, _ = build_datasets(DataConfig(train_data_paths=paths), 16, (40, 0, 0), Vocabulary(), 1, None)
    kept, _, _ = build_datasets(DataConfig(train_data_paths=paths[:1]), 16, (40, 0, 0), Vocabulary(), 1, None)
    assert len(train) == 40 and len(kept) >= 40
    assert {path.name for path in tmp_path.iterdir()} == {"a.bin", "a.idx", "b.bin", "b.idx"}
    assert capfd.readouterr().err == ""


def test_a_missing_or_short_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        build_datasets(DataConfig(train_data_paths=(str(tmp_path / "nowhere"),)), 8, (4, 0, 0), Vocabulary(), 1, None)
    short = write(tmp_path / "short", [[5, 6]])
    with pytest.raises(DataError, match="holds 2 tokens, one sample needs 9"):
        build_datasets(DataConfig(train_data_paths=(short,)), 8, (4, 0, 0), Vocabulary(), 1, None)
