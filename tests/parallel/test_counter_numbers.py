"""Numbers by their places: SplitMix64's published sequence, parts, and statistics."""

import pytest
import torch

from neox_code.parallel.counter_numbers import GOLDEN, derive_keys, draw_bits, draw_mask, make_key, mix, to_normal, to_uniform

FIRST_NUMBERS = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
"""The first numbers of SplitMix64 with the seed 1234567, as Rosetta Code publishes them."""


def test_the_mix_is_that_of_splitmix64():
    seed = torch.tensor([1234567])
    assert [value % 2**64 for value in mix(seed + torch.arange(1, 6) * GOLDEN).tolist()] == FIRST_NUMBERS
    assert [int(derive_keys(seed, number)) % 2**64 for number in range(5)] == FIRST_NUMBERS


def test_parts_of_rows_columns_and_keys_have_the_bits_of_the_whole():
    keys, rows = torch.tensor([3, make_key(1, 2), -7]), torch.arange(50)
    whole = draw_bits(keys, rows, range(31))
    assert whole.shape == (3, 50, 31)
    assert len(whole.unique()) == whole.numel()
    for columns in (range(31), range(4, 9), range(7, 8), range(11, 31)):
        part = draw_bits(keys[1:], rows[[40, 3]], columns)
        assert torch.equal(part, whole[1:, [40, 3], columns.start : columns.stop])


def test_numbers_have_the_moments_of_their_distributions_and_neighbors_are_uncorrelated():
    bits = draw_bits(torch.tensor([make_key(5)]), torch.arange(1000), range(1000))[0]
    uniform, normal = to_uniform(bits), to_normal(bits)
    assert 0 < uniform.min() < 1e-5 < 1 - 1e-5 < uniform.max() < 1
    for values, moments in ((uniform, (1 / 2, 1 / 3, 1 / 4, 1 / 5)), (normal, (0, 1, 0, 3))):
        found = [values.double().pow(power).mean().item() for power in range(1, 5)]
        assert found == pytest.approx(moments, abs=0.02)
        centered = values.double() - moments[0]
        for shift, dim in ((1, 0), (1, 1), (2, 1)):
            assert abs((centered * centered.roll(shift, dim)).mean()) < 0.004
    for share in (0.1, 0.5):
        kept = draw_mask(torch.tensor([make_key(6)]), torch.arange(1000), range(1000), share).double().mean()
        assert kept.item() == pytest.approx(1 - share, abs=0.002)
