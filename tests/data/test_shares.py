"""Shares of languages and directories, counted in the samples."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash

from neox_code.config.data import DataConfig
from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import IndexedDatasetWriter
from neox_code.data.megatron_datasets import build_datasets, build_unseen_samples, build_validation_languages
from neox_code.data.origins import Origin, write_origins
from neox_code.errors import DataError


class Vocabulary:
    vocab_size, eod_id, pad_id, identity = 1000, 0, 0, {"type": "test"}


def write(prefix: Path, documents: list[tuple[str, str, int, int]]) -> str:
    """Write documents of (language, path, token, length); a token is a byte of the text."""
    with IndexedDatasetWriter(prefix, np.uint16) as writer:
        for _, _, token, length in documents:
            writer.add_document([token] * (length - 1) + [0])
    write_origins(prefix, [Origin("r", path, "MIT", language, length) for language, path, _, length in documents])
    return str(prefix)


def count_first_tokens(data: DataConfig, count: int) -> Counter:
    """The samples by the token that most of their positions have."""
    train = build_datasets(data, 16, (count, 0, 0), Vocabulary(), 1, None)[0]
    return Counter(int(train[index]["tokens"].bincount()[1:].argmax()) + 1 for index in range(count))


@pytest.fixture
def mixed(tmp_path) -> tuple[str, str]:
    """Two token files: 300 documents of Python (token 1) and 100 of C (2), and 100 more of C (3)."""
    python, c = [("Python", "a.py", 1, 48)] * 300, [("C", "a.c", 2, 48)] * 100
    return write(tmp_path / "one", python[:200] + c + python[200:]), write(tmp_path / "two", [("C", "b.c", 3, 48)] * 100)


@pytest.mark.parametrize("pack_impl", ["packed", "best_fit"])
def test_languages_have_the_shares_of_their_weights_in_all_files_together(mixed, pack_impl):
    data = DataConfig(train_data_paths=mixed, language_weights={"Python": 1.0, "C": 3}, pack_impl=pack_impl)
    counts = count_first_tokens(data, 400)
    assert [counts[token] for token in (1, 2, 3)] == [pytest.approx(expected, abs=1) for expected in (100, 150, 150)]
    counts = count_first_tokens(DataConfig(train_data_paths=mixed, language_weights={"C": 1}), 100)
    assert [counts[token] for token in (1, 2, 3)] == [0, 50, 50]
    counts = count_first_tokens(DataConfig(train_data_paths=mixed, language_alpha=0.5), 500)  # sqrt(300) : sqrt(200)
    assert counts[1] == pytest.approx(500 * 300**0.5 / (300**0.5 + 200**0.5), abs=2)


def test_mistakes_in_languages_are_named(mixed, tmp_path):
    with pytest.raises(DataError, match="language_weights has Pythn, but the token files have documents of C, Python alone"):
        count_first_tokens(DataConfig(train_data_paths=mixed, language_weights={"Pythn": 1}), 4)
    Path(f"{mixed[1]}.origins.parquet").unlink()
    write_record(mixed[1], None, 999)
    with pytest.raises(DataError, match=r"two\.origins\.parquet is missing .* language_alpha needs it.*preprocess_data"):
        count_first_tokens(DataConfig(train_data_paths=mixed, language_alpha=1.0), 4)


def test_weights_by_numbers_of_documents_are_those_of_gpt_neox(mixed):
    data = DataConfig(train_data_paths=mixed, weight_by_num_documents=True, weighted_sampler_alpha=0.3)
    powers = np.array([0.8, 0.2]) ** 0.3
    parts = powers / powers.sum()
    expected = parts * (1 - parts) / (parts * (1 - parts)).sum()
    counts = count_first_tokens(data, 200)
    assert counts[3] == pytest.approx(200 * expected[1], abs=1)


@pytest.mark.parametrize("names", [("one", "two"), ("two", "one")])
def test_unseen_documents_are_the_same_ones_in_every_order_of_the_files_and_never_trained_on(tmp_path, names):
    """Each document has its own token."""
    for first, name in ((1, "one"), (301, "two")):
        write(tmp_path / name, [("Python", f"{token}.py", token, 40) for token in range(first, first + 300)])
    paths = tuple(str(tmp_path / name) for name in names)
    data = DataConfig(train_data_paths=paths, train_data_weights=(1, 1), unseen_share=0.25, directory_alpha=0.5)
    samples = (
        build_datasets(data, 16, (1500, 0, 0), Vocabulary(), 1, None)[0],
        build_unseen_samples(data, 16, 1500, Vocabulary(), 2, None),
    )
    trained, unseen = ({int(token) for index in range(1500) for token in own[index]["tokens"]} - {0} for own in samples)
    assert not trained & unseen and trained | unseen == set(range(1, 601))
    assert unseen == {token for token in range(1, 601) if xxhash.xxh3_64_intdigest(f"r\n{token}.py".encode()) < 2**62}


def test_unseen_documents_have_the_weights_of_the_languages_that_they_have(tmp_path):
    """C has one document, which training reads."""
    path = write(tmp_path / "one", [("Python", f"{number}.py", 1, 40) for number in range(40)] + [("C", "1.c", 2, 40)])
    data = DataConfig(train_data_paths=(path,), language_weights={"Python": 1, "C": 3}, unseen_share=0.5)
    unseen = build_unseen_samples(data, 16, 40, Vocabulary(), 1, None)
    assert {int(token) for index in range(40) for token in unseen[index]["tokens"]} == {0, 1}
    assert build_unseen_samples(replace(data, unseen_share=1e-9), 16, 40, Vocabulary(), 1, None) is None


def test_validation_has_the_languages_of_its_split(mixed):
    data = DataConfig(data_path=mixed[0], split=(50, 25, 25), valid_by_language=True)  # documents 200 to 299 are those of C
    samples = build_validation_languages(data, 16, Vocabulary(), 1, None)
    assert list(samples) == ["C"] and {part.document for part in samples["C"].list_parts(0)} <= set(range(200, 300))
    samples = build_validation_languages(replace(data, split=(40, 60, 0)), 16, Vocabulary(), 1, None)
    assert {language: len(own) for language, own in samples.items()} == {"C": (100 * 48 - 1) // 16, "Python": (140 * 48 - 1) // 16}


@pytest.mark.parametrize("pack_impl", ["packed", "best_fit"])
def test_directories_have_the_shares_of_the_roots_of_their_sizes(tmp_path, pack_impl):
    big = [("C", f"include/ops/x/{number}.h", 1, 16) for number in range(900)]
    small = [("C", f"src/{number}.c", 2, 16) for number in range(100)]
    path = write(tmp_path / "t", big + small)
    data = DataConfig(train_data_paths=(path,), directory_alpha=0.5, pack_impl=pack_impl)
    train = build_datasets(data, 16, (4000, 0, 0), Vocabulary(), 1, None)[0]
    per_epoch = train.samples_per_epoch
    assert per_epoch == pytest.approx(1000, abs=1)
    for epoch in range(3):
        tokens = Counter()
        for index in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            tokens.update(train[index]["labels"].tolist())
        assert tokens[1] / (tokens[1] + tokens[2]) == pytest.approx(0.75, abs=0.002)
    read = Counter(part.document for index in range(4 * per_epoch) for part in train.list_parts(index) if part.length > 1)
    assert {read[document] for document in range(900, 1000)} <= {9, 10, 11}  # 2.5 times an epoch, the same for all
    assert {read[document] for document in range(900)} <= {2, 3, 4}  # 5 / 6 times an epoch, and an epoch skips its last tokens
    assert max(read.values()) <= 11
