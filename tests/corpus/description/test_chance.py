import random

import numpy as np

from neox_code.corpus.description.chance import LeastHashes, row_hashes


def chosen(groups: list[str | None], weights: list[int], enough: int, cuts: list[int]) -> dict[str, list[int]]:
    """The rows chosen where they come in pieces that end at `cuts`."""
    result = LeastHashes(enough)
    for first, end in zip([0, *cuts], [*cuts, len(groups)], strict=True):
        hashes = row_hashes(first, end - first, seed=3)
        result.add(
            np.array(groups[first:end], object), hashes, lambda index, first=first: first + index, np.array(weights[first:end])
        )
    return {name: result.of(name) for name in result.groups()}


def test_the_choice_is_that_of_a_sort_by_hash_however_the_rows_are_cut() -> None:
    choose = random.Random(5)
    groups = [choose.choice(["C", "Go", None]) for _ in range(2000)]
    weights = [choose.randrange(1, 400) for _ in groups]
    order = np.argsort(row_hashes(0, len(groups), seed=3)).tolist()
    expected = {}
    for name in ("C", "Go"):
        rows, total = [], 0
        for row in order:
            if groups[row] == name and total < 5000:
                rows.append(row)
                total += weights[row]
        expected[name] = rows
    for cuts in ([], [1, 2, 3], [700], list(range(10, 2000, 10))):
        assert chosen(groups, weights, 5000, cuts) == expected


def test_too_few_rows_are_all_chosen() -> None:
    assert sorted(chosen(["C"] * 5, [1] * 5, 9, [2])["C"]) == [0, 1, 2, 3, 4]


def test_another_seed_chooses_others() -> None:
    orders = {tuple(np.argsort(row_hashes(0, 50, seed)).tolist()) for seed in [*range(20), -1, 10**30]}
    assert len(orders) == 22


def test_the_first_rows_are_chosen_no_more_often_than_the_last() -> None:
    firsts = [int(np.argmin(row_hashes(0, 100, seed))) for seed in range(4000)]
    assert 1850 < sum(first < 50 for first in firsts) < 2150
