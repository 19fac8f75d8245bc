import random

import numpy as np

from neox_code.corpus.description.seeded_sample import SeededSample, hash_rows


def sample_rows(groups: list[str | None], weights: list[int], enough: int, ends: list[int]) -> dict[str, list[int]]:
    """Return the sampled row numbers of each group, added in batches that end at `ends`."""
    result = SeededSample(enough)
    for first, end in zip([0, *ends], [*ends, len(groups)], strict=True):
        hashes = hash_rows(first, end - first, seed=3)
        result.add(
            np.array(groups[first:end], object), hashes, lambda index, first=first: first + index, np.array(weights[first:end])
        )
    return {name: result.get_rows(name) for name in result.groups()}


def test_the_sample_equals_a_sort_by_hash_for_any_batch_sizes() -> None:
    generator = random.Random(5)
    groups = [generator.choice(["C", "Go", None]) for _ in range(2000)]
    weights = [generator.randrange(1, 400) for _ in groups]
    order = np.argsort(hash_rows(0, len(groups), seed=3)).tolist()
    expected = {}
    for name in ("C", "Go"):
        rows, total = [], 0
        for row in order:
            if groups[row] == name and total < 5000:
                rows.append(row)
                total += weights[row]
        expected[name] = rows
    for ends in ([], [1, 2, 3], [700], list(range(10, 2000, 10))):
        assert sample_rows(groups, weights, 5000, ends) == expected


def test_all_rows_of_a_small_group_are_sampled() -> None:
    assert sorted(sample_rows(["C"] * 5, [1] * 5, 9, [2])["C"]) == [0, 1, 2, 3, 4]


def test_every_seed_gives_another_order() -> None:
    orders = {tuple(np.argsort(hash_rows(0, 50, seed)).tolist()) for seed in [*range(20), -1, 10**30]}
    assert len(orders) == 22


def test_first_and_last_rows_are_sampled_equally_often() -> None:
    firsts = [int(np.argmin(hash_rows(0, 100, seed))) for seed in range(4000)]
    assert 1850 < sum(first < 50 for first in firsts) < 2150
