"""Every sample once, whatever the number of ranks; resume by a count."""

import pytest

from neox_code.data.sampler import ConsecutiveSampler


@pytest.mark.parametrize("data_size", [1, 2, 3])
def test_the_ranks_together_read_every_sample_once_and_in_order(data_size):
    ranks = [list(ConsecutiveSampler(24, 2, rank, data_size)) for rank in range(data_size)]
    assert [index for step in zip(*ranks, strict=True) for batch in step for index in batch] == list(range(24))


def test_a_resumed_run_with_other_ranks_continues_with_the_next_sample():
    first = ConsecutiveSampler(24, 2, 0, 3)
    read = next(iter(first))
    resumed = ConsecutiveSampler(24, 4, 0, 1)
    resumed.seek(6)
    assert read == [0, 1]
    assert next(iter(resumed)) == [6, 7, 8, 9]
    assert len(resumed) == 4


def test_no_batch_is_left_after_the_last_sample():
    sampler = ConsecutiveSampler(8, 2, 0, 1)
    sampler.seek(12)
    assert len(sampler) == 0
    assert list(sampler) == []


def test_samples_that_do_not_fill_a_batch_are_left_out():
    assert list(ConsecutiveSampler(5, 2, 0, 2)) == [[0, 1]]
