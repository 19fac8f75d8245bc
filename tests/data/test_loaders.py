"""Batches for a rank, from any sample on."""

import pytest

from neox_code.data.loaders import BatchLoader
from neox_code.errors import DataError
from neox_code.parallel.grid import alone


def test_more_steps_than_there_are_samples_left_is_an_error_with_the_numbers():
    loader = BatchLoader(list(range(10)), 2, alone(), 0)
    loader.seek(4)
    loader.require(3)
    with pytest.raises(DataError, match=r"there are 10 training samples, .* 4 are consumed, .* need 8\."):
        loader.require(4)
