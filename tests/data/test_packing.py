"""Best-fit packing against a plain packer that places one piece after the other, and by hand."""

from collections import Counter

import numpy as np
import pytest

from neox_code.data.packing import find_best_fit, pack_documents


def pack_one_by_one(sizes: list[int], capacity: int) -> list[int]:
    """The free space of each row, ascending, by best fit of the largest first."""
    spaces: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [space for space in spaces if space >= size]
        if fitting:
            spaces.remove(min(fitting))
            spaces.append(min(fitting) - size)
        else:
            spaces.append(capacity - size)
    return sorted(spaces)


@pytest.mark.parametrize("seed", range(8))
def test_rows_are_filled_as_by_a_plain_packer(seed):
    generator = np.random.default_rng(seed)
    capacity = int(generator.integers(8, 60))
    sizes = generator.integers(2, capacity + 1, int(generator.integers(1, 400)))
    row_of = find_best_fit(sizes, capacity)
    filled = np.bincount(row_of, weights=sizes)
    assert sorted((capacity - filled).tolist()) == pack_one_by_one(sizes.tolist(), capacity)


@pytest.mark.parametrize("row_length", [4, 7, 32])
def test_every_token_is_predicted_once(row_length):
    generator = np.random.default_rng(1)
    lengths = generator.integers(0, 90, 200)
    rows = pack_documents(np.arange(200) + 1000, lengths, row_length, generator)
    pieces = zip(rows.documents.tolist(), rows.offsets.tolist(), rows.lengths.tolist(), strict=True)
    covered = Counter((document, place) for document, begin, length in pieces for place in range(begin, begin + length))
    assert covered == Counter((1000 + document, place) for document, length in enumerate(lengths) for place in range(length))
    inputs = np.add.reduceat(rows.lengths + 1, [0, *rows.row_ends[:-1]])
    counts = np.diff(rows.row_ends, prepend=0)
    assert ((inputs <= row_length) | (counts == 1)).all() and inputs.max() <= row_length + 1


def test_the_number_of_rows_does_not_depend_on_the_order_and_the_same_seed_gives_the_same_rows():
    lengths = np.random.default_rng(2).integers(1, 40, 300)
    first, other, again = (pack_documents(np.arange(300), lengths, 32, np.random.default_rng(seed)) for seed in (5, 6, 5))
    assert len(first.row_ends) == len(other.row_ends)
    assert all((one == same).all() for one, same in zip(first, again, strict=True))
    assert (first.documents != other.documents).any()
