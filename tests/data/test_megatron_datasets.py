"""Samples against the token file they are cut from, and their order against megatron-core's own builder."""

import logging
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed_runs import run_ranks
from torch.utils.data import Dataset

from neox_code.config.data import DataConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.data.identity import write_record
from neox_code.data.index_cache import IndexCache
from neox_code.data.indexed_dataset import IndexedDatasetWriter
from neox_code.data.megatron_datasets import build_datasets
from neox_code.errors import DataError
from neox_code.parallel.startup import startup

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # megatron-core names what is not installed, and deprecated parts of torch, as it is imported
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig


class Vocabulary:
    """The facts that datasets ask of a tokenizer."""

    vocab_size, eod_id, pad_id, identity = 1000, 0, 1, {"tokenizer_type": "test"}


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


def test_the_loss_masks_the_token_after_a_document_if_configured(tmp_path):
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


def test_nothing_is_written_without_a_cache_folder(tmp_path, capfd):
    paths = (write(tmp_path / "a", [[2] * 50] * 20), write(tmp_path / "b", [[3] * 50] * 20))
    train, _, _ = build_datasets(DataConfig(train_data_paths=paths), 16, (40, 0, 0), Vocabulary(), 1, None)
    kept, _, _ = build_datasets(DataConfig(train_data_paths=paths[:1]), 16, (40, 0, 0), Vocabulary(), 1, None)
    assert len(train) == 40 and len(kept) >= 40
    assert {path.name for path in tmp_path.iterdir()} == {"a.bin", "a.idx", "b.bin", "b.idx"}
    assert capfd.readouterr().err == ""


def test_a_missing_or_short_file_is_an_error_with_its_name(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        build_datasets(DataConfig(train_data_paths=(str(tmp_path / "nowhere"),)), 8, (4, 0, 0), Vocabulary(), 1, None)
    short = write(tmp_path / "short", [[5, 6]])
    with pytest.raises(DataError, match="holds 2 tokens, one sample needs 9"):
        build_datasets(DataConfig(train_data_paths=(short,)), 8, (4, 0, 0), Vocabulary(), 1, None)


def documents(seed: int, count: int = 60) -> list[list[int]]:
    """Documents of 5 to 59 tokens, no token twice (65,535 ids are enough)."""
    generator = np.random.default_rng(seed)
    ids = iter(range(seed * 10_000, seed * 10_000 + 10_000))
    return [[next(ids) for _ in range(length)] for length in generator.integers(5, 60, count)]


class WideVocabulary(Vocabulary):
    vocab_size, eod_id, pad_id = 65_536, 0, 0


LENGTH = 32


def read(data: DataConfig, count: int, cache: IndexCache | None = None) -> Dataset:
    train, _, _ = build_datasets(data, LENGTH, (count, 0, 0), WideVocabulary(), 7, cache)
    assert len(train) >= count
    return train


def ids(dataset: Dataset, count: int) -> list[list[int]]:
    return [[*dataset[index]["tokens"].tolist(), int(dataset[index]["labels"][-1])] for index in range(count)]


@pytest.fixture
def choices(tmp_path: Path) -> dict[str, DataConfig]:
    """The ways to name training data."""
    paths = tuple(write(tmp_path / name, documents(seed)) for seed, name in enumerate("abc"))
    return {
        "one file": DataConfig(train_data_paths=paths[:1]),
        "one file of a split": DataConfig(data_path=paths[0], split=(80, 15, 5)),
        "a blend": DataConfig(train_data_paths=paths, train_data_weights=(5.0, 2.0, 1.0)),
        "an equal blend": DataConfig(train_data_paths=paths),
        "one file twice": DataConfig(train_data_paths=(paths[1], paths[1])),
    }


CHOICES = ["one file", "one file of a split", "a blend", "an equal blend", "one file twice"]


def megatron_ids(data: DataConfig, count: int) -> list[list[int]]:
    """The samples of megatron-core's builder."""
    paths, weights = list(data.train_data_paths), list(data.train_data_weights) or [1.0] * len(data.train_data_paths)
    train = (paths, weights if len(paths) > 1 else None)
    sources = (
        {"blend": ([data.data_path], None), "split": ",".join(map(str, data.split))}
        if data.data_path
        else {"blend_per_split": [train, None, None]}
    )
    tokenizer = type("Facts", (), {"vocab_size": 65_536, "eod": 0, "pad": -1, "unique_identifiers": {}})()
    config = GPTDatasetConfig(
        random_seed=7,
        sequence_length=LENGTH,
        path_to_cache="",
        tokenizer=tokenizer,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        **sources,
    )
    return ids(BlendedMegatronDatasetBuilder(GPTDataset, [count, 0, 0], lambda: True, config).build()[0], count)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_first_epoch_equals_that_of_megatron_core(choices, choice):
    count = len(read(choices[choice], 1)) if "of a" in choice or choice == "one file" else 60
    assert count > 40
    assert ids(read(choices[choice], count), count) == megatron_ids(choices[choice], count)


@pytest.mark.parametrize("count", [70, 100, 130, 400])
@pytest.mark.parametrize("choice", CHOICES)
def test_the_order_over_all_epochs_equals_that_of_megatron_core(choices, choice, count):
    data = replace(choices[choice], sample_order="all_epochs")
    assert ids(read(data, count), count) == megatron_ids(data, count)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("kept", [False, True])
def test_a_sample_does_not_depend_on_the_number_of_samples(choices, choice, kept, tmp_path):
    cache = IndexCache(tmp_path / "cache", smallest=0) if kept else None
    longest = ids(read(choices[choice], 500, cache), 500)
    for count in (1, 10, 59, 62, 63, 124, 250):
        assert ids(read(choices[choice], count, cache), count) == longest[:count]
    extended = read(choices[choice], 1, cache)
    extended.extend(500)
    assert ids(extended, 500) == longest


def test_every_epoch_has_every_token_once_except_its_last_tokens(tmp_path):
    path = write(tmp_path / "a", documents(0))
    tokens = [token for document in documents(0) for token in document]
    per_epoch, rest = divmod(len(tokens) - 1, LENGTH)
    samples = ids(read(DataConfig(train_data_paths=(path,)), 4 * per_epoch), 4 * per_epoch)
    epochs = [
        [token for sample in samples[begin : begin + per_epoch] for token in sample[:-1]]
        for begin in range(0, 4 * per_epoch, per_epoch)
    ]
    left_out = [frozenset(tokens) - set(epoch) for epoch in epochs]
    assert all(len(epoch) == len(set(epoch)) == per_epoch * LENGTH for epoch in epochs)
    assert all(len(missing) == rest + 1 for missing in left_out)
    assert len(set(left_out)) == len({tuple(epoch) for epoch in epochs}) == 4


def test_a_blend_reads_each_file_in_the_order_of_the_single_file(choices):
    blend, alone = choices["a blend"], choices["one file"]
    from_first = [sample for sample in ids(read(blend, 300), 300) if sample[0] < 10_000]
    assert len(from_first) == pytest.approx(300 * 5 / 8, abs=1)
    assert from_first == ids(read(alone, len(from_first)), len(from_first))


def test_shares_without_documents_are_left_out_with_one_line(tmp_path, caplog):
    data = DataConfig(data_path=write(tmp_path / "all", [[5] * 40] * 400))
    caplog.set_level(logging.INFO, "neox_code")
    train, valid, test = build_datasets(data, LENGTH, (20, 4, 4), Vocabulary(), 1, None)
    assert (len(train) >= 20, len(valid) >= 4, test) == (True, True, None)
    assert [record.message for record in caplog.records] == [
        f"test is skipped: its share of {tmp_path}/all has no documents (split 969,30,1)"
    ]


def test_a_share_shorter_than_a_sample_is_repeated_in_it_with_a_warning(tmp_path, caplog):
    data = DataConfig(data_path=write(tmp_path / "all", [[5] * 7 + [0]] * 600))
    _, _, test = build_datasets(data, LENGTH, (20, 0, 4), Vocabulary(), 1, None)
    assert ids(test, 4) == [[5, 5, 5, 5, 5, 5, 5, 0] * 4 + [5]] * 4
    assert "test: the 1 documents of" in caplog.text and "have 8 tokens, fewer than the 33 of one sample" in caplog.text


@pytest.mark.parametrize("count", [2, 8, 16, 40])
def test_a_blend_of_few_samples_can_be_read(tmp_path, count):
    paths = tuple(write(tmp_path / str(number), [[number + 1] * 89] * size) for number, size in enumerate((121, *[27] * 11)))
    for order in ("per_epoch", "all_epochs"):
        data = DataConfig(train_data_paths=paths, train_data_weights=(50.0, *[1.0] * 11), sample_order=order)
        train, _, _ = build_datasets(data, 2048, (count, 0, 0), Vocabulary(), 1, None)
        assert len(train) == len(ids(train, count)) == count


def test_a_file_of_weight_zero_is_not_read(tmp_path):
    paths = (str(tmp_path / "absent"), write(tmp_path / "a", [[2] * 50] * 20), write(tmp_path / "b", [[3] * 50] * 20))
    data = DataConfig(train_data_paths=paths, train_data_weights=(0.0, 1.0, 1.0))
    assert Counter(sample[0] for sample in ids(read(data, 40), 40)) == {2: 20, 3: 20}


def test_a_replaced_token_file_is_indexed_again(tmp_path):
    data, cache = DataConfig(train_data_paths=(str(tmp_path / "a"),)), IndexCache(tmp_path / "cache", smallest=0)
    for documents_now in (documents(0), documents(0, 200), documents(1, 30), documents(0)):
        write(tmp_path / "a", documents_now)
        assert ids(read(data, 100, cache), 100) == ids(read(data, 100), 100)


def test_missing_validation_files_are_left_out_and_named_with_the_remedy(tmp_path, caplog):
    train = write(tmp_path / "train", documents(0))
    data = DataConfig(train_data_paths=(train,), valid_data_paths=("nowhere",))
    datasets = build_datasets(data, LENGTH, (10, 10, 0), WideVocabulary(), 1, None)
    assert [dataset is None for dataset in datasets] == [False, True, True]
    assert "valid data is left out: nowhere.bin does not exist (valid_data_paths)" in caplog.text
    assert "set data_path and split" in caplog.text
    with pytest.raises(DataError, match=r"nowhere\.idx does not exist"):
        build_datasets(replace(data, valid_data_paths=("nowhere", train)), LENGTH, (10, 10, 0), WideVocabulary(), 1, None)


def test_validation_and_test_files_shorter_than_a_sample_are_left_out_with_a_warning(tmp_path, caplog):
    train, short = write(tmp_path / "train", [[2] * 50] * 20), write(tmp_path / "short", [[5, 6]])
    data = DataConfig(train_data_paths=(train,), valid_data_paths=(short,), test_data_paths=(short, train))
    found = build_datasets(data, 8, (4, 4, 4), Vocabulary(), 1, None)
    assert found[1] is None and {int(token) for sample in found[2] for token in sample["tokens"]} == {2}
    for split in ("valid", "test"):
        assert f"{split}: left out, {short}.bin holds 2 tokens, one sample needs 9" in caplog.text
    with pytest.raises(DataError, match="holds 2 tokens, one sample needs 9"):
        build_datasets(DataConfig(train_data_paths=(train, short), valid_data_paths=(short,)), 8, (4, 4, 0), Vocabulary(), 1, None)


def test_an_id_beyond_the_vocabulary_is_named_with_its_file(tmp_path):
    path = write(tmp_path / "a", [[5, 6, 7, 1000, 0]] * 20)
    data = DataConfig(train_data_paths=(path,))
    with pytest.raises(DataError, match=r"a\.bin has token id 1,000, but the vocabulary of test"):
        build_datasets(data, LENGTH, (1, 0, 0), Vocabulary(), 1, None)
    write_record(path, None, 999)  # as a sample of a large file may look
    train, _, _ = build_datasets(data, LENGTH, (1, 0, 0), Vocabulary(), 1, None)
    with pytest.raises(DataError, match=r"a\.bin has token id 1,000 in one of its documents \d+ to \d+, .* ids 0 to 999"):
        train[0]


def read_on_rank(path: str, cache: Path) -> tuple[list[list[int]], str]:
    """The samples of one rank of several, and the error that it raises for a missing file."""
    with startup(ParallelismConfig()):
        data = DataConfig(train_data_paths=(path, path))
        samples = ids(read(data, 150, IndexCache(cache, smallest=0)), 150)
        with pytest.raises(DataError) as caught:
            read(DataConfig(train_data_paths=("nowhere",)), 1)
    return samples, str(caught.value)


def test_two_ranks_read_the_samples_of_one_and_raise_the_same_error(tmp_path):
    path = write(tmp_path / "a", documents(0))
    (first, error), (second, same_error) = run_ranks(2, read_on_rank, path, tmp_path / "cache")
    assert first == second == ids(read(DataConfig(train_data_paths=(path, path)), 150), 150)
    assert error == same_error and error.startswith("nowhere.idx does not exist")
