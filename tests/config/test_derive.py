"""Arithmetic of batches and ranks against sums done by hand."""

import itertools

import pytest

from neox_code.config.derive import BatchSizes, compute_data_parallel_size, compute_padded_vocab_size, derive_batch_sizes
from neox_code.errors import ConfigError


@pytest.mark.parametrize(("micro", "steps", "ranks"), [*itertools.product((1, 3, 4), (1, 2, 5), (1, 2, 8))])
def test_any_two_sizes_give_the_third(micro, steps, ranks):
    whole = BatchSizes(micro * steps * ranks, micro, steps)
    assert derive_batch_sizes(whole.train_batch_size, micro, steps, ranks) == whole
    assert derive_batch_sizes(None, micro, steps, ranks) == whole
    assert derive_batch_sizes(whole.train_batch_size, None, steps, ranks) == whole
    assert derive_batch_sizes(whole.train_batch_size, micro, None, ranks) == whole


def test_one_size_alone_means_one_accumulation_step():
    assert derive_batch_sizes(128, None, None, 8) == BatchSizes(128, 16, 1)
    assert derive_batch_sizes(None, 4, None, 8) == BatchSizes(32, 4, 1)


@pytest.mark.parametrize(
    ("sizes", "product"),
    [
        ((128, 8, None, 3), "8 * 5 * 3 = 120"),
        ((100, 4, 5, 4), "4 * 5 * 4 = 80"),
        ((2, 3, 5, 4), "3 * 5 * 4 = 60"),
    ],
)
def test_sizes_that_do_not_fit_show_the_product(sizes, product):
    with pytest.raises(ConfigError, match=r"^train_batch_size \d+ is not .* = ") as caught:
        derive_batch_sizes(*sizes)
    assert product in str(caught.value)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ((1536, 16, None, 1536), "at least train_micro_batch_size_per_gpu * data-parallel ranks = 16 * 1536 = 24576."),
        ((2, None, None, 4), "at least gradient_accumulation_steps * data-parallel ranks = 1 * 4 = 4."),
        ((7, None, 2, 4), "at least gradient_accumulation_steps * data-parallel ranks = 2 * 4 = 8."),
    ],
)
def test_a_batch_with_fewer_samples_than_ranks_is_refused(sizes, sentence):
    with pytest.raises(ConfigError, match=rf"^train_batch_size {sizes[0]} must be ") as caught:
        derive_batch_sizes(*sizes)
    assert sentence in str(caught.value)


def test_at_least_one_batch_size_is_needed():
    with pytest.raises(ConfigError, match="neither train_batch_size nor train_micro_batch_size_per_gpu"):
        derive_batch_sizes(None, None, 4, 2)


def test_ranks_are_divided_by_stages_and_tensor_ranks():
    assert compute_data_parallel_size(16, 2, 4) == 2
    assert compute_data_parallel_size(3, 0, 1) == 3
    for world in (2, 6):
        with pytest.raises(ConfigError, match=rf"^{world} ranks are not a multiple of .* = 2 \* 2 = 4\."):
            compute_data_parallel_size(world, 2, 2)


@pytest.mark.parametrize("size", [1, 128, 129, 8192, 50257])
@pytest.mark.parametrize("tensor_parallel_size", [1, 2, 4])
def test_the_padded_vocabulary_is_the_first_multiple_that_holds_it(size, tensor_parallel_size):
    rows = compute_padded_vocab_size(size, 128, tensor_parallel_size)
    assert rows == next(number for number in itertools.count(size) if number % (128 * tensor_parallel_size) == 0)
