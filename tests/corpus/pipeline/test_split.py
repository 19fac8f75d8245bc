import random

import pytest

from neox_code.corpus.pipeline.projects import sum_language_bytes
from neox_code.corpus.pipeline.split import assign_splits

SHARES = {"train": 90.0, "valid": 5.0, "test": 5.0}


def share_of(sizes, splits, split, language):
    mine = sum(size.get(language, 0) for project, size in sizes.items() if splits[project] == split)
    return 100 * mine / sum_language_bytes(sizes)[language]


@pytest.mark.parametrize("shares", [SHARES, {"train": 98.9, "valid": 0.1, "test": 1.0}])
def test_each_language_is_divided_near_its_shares(shares):
    generator = random.Random(5)
    sizes = {}
    for number in range(3000):
        size = int(10 ** generator.uniform(2, 4))
        sizes[f"p{number}"] = {("C", "Go", "Java")[number % 3]: size} | ({"Python": size // 2} if number % 5 == 0 else {})
    splits = assign_splits(sizes, shares, seed=1)
    cells = [(language, split) for language in sum_language_bytes(sizes) for split in ("valid", "test")]
    reached = [share_of(sizes, splits, split, language) / shares[split] for language, split in cells]
    assert all(0.8 < ratio < 1.5 for ratio in reached), list(zip(cells, reached, strict=True))
    assert sum(0.97 < ratio < 1.03 for ratio in reached) >= 6, list(zip(cells, reached, strict=True))


def test_a_language_of_one_project_is_trained_on():
    sizes = {f"p{number}": {"C": 100} for number in range(40)} | {"only": {"Go": 5, "C": 1}}
    assert all(assign_splits(sizes, SHARES, seed)["only"] == "train" for seed in range(20))


def test_two_projects_are_train_and_test_and_three_are_one_of_each():
    for seed in range(20):
        assert sorted(assign_splits({"a": {"C": 5}, "b": {"C": 900}}, SHARES, seed).values()) == ["test", "train"]
        three = assign_splits({"a": {"C": 5}, "b": {"C": 900}, "c": {"C": 40}}, SHARES, seed)
        assert sorted(three.values()) == ["test", "train", "valid"]
        assert three["b"] == "train"


def test_every_language_of_three_projects_has_held_out_files_even_beside_a_large_one():
    sizes = {f"p{number}": {"Python": 1000 * number} for number in range(1, 100)}
    for number in (3, 50, 99):
        sizes[f"p{number}"]["Scala"] = 20_000
    for seed in range(20):
        splits = assign_splits(sizes, SHARES, seed)
        assert {splits[f"p{number}"] for number in (3, 50, 99)} == {"train", "valid", "test"}


def test_a_split_without_a_share_stays_empty():
    sizes = {f"p{number}": {"C": 10 + number} for number in range(50)}
    assert set(assign_splits(sizes, {"train": 1, "valid": 0, "test": 0}, seed=1).values()) == {"train"}
    assert set(assign_splits(sizes, {"train": 90, "valid": 0, "test": 10}, seed=1).values()) == {"train", "test"}


def test_the_split_depends_on_the_seed_and_on_no_order():
    sizes = {f"p{number}": {"C": 10 + number} for number in range(100)}
    assert assign_splits(sizes, SHARES, 1) == assign_splits(dict(reversed(sizes.items())), SHARES, 1)
    assert assign_splits(sizes, SHARES, 1) != assign_splits(sizes, SHARES, 2)
