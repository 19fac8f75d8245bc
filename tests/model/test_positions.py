"""Sinusoidal positions and ALiBi against their published formulas."""

import math

import pytest
import torch

from neox_code.model.alibi import compute_bias, compute_head_slopes
from neox_code.model.positions import compute_sinusoidal_vectors


def test_sinusoidal_positions_have_all_sines_before_all_cosines():
    table = compute_sinusoidal_vectors(torch.tensor([[0, 3, 1000]]), 8, torch.float32)
    assert table.shape == (1, 3, 8)
    for place, position in enumerate((0, 3, 1000)):
        for i in range(4):
            angle = position * 10000 ** (-2 * i / 8)
            assert table[0, place, i].item() == pytest.approx(math.sin(angle), abs=1e-4)
            assert table[0, place, 4 + i].item() == pytest.approx(math.cos(angle), abs=1e-4)


def test_slopes_are_those_of_the_paper():
    assert compute_head_slopes(8) == tuple(1 / 2**head for head in range(1, 9))
    assert compute_head_slopes(16) == pytest.approx([2 ** (-head / 2) for head in range(1, 17)])
    assert compute_head_slopes(12)[8:] == pytest.approx([2 ** (-head / 2) for head in (1, 3, 5, 7)])
    assert len(compute_head_slopes(112)) == 112


def test_scores_decrease_with_the_distance_and_later_keys_are_masked():
    bias = compute_bias((0.5, 0.25), torch.tensor([[2, 3]]), 4, torch.float32)
    future = -math.inf
    expected = [[[-1.0, -0.5, 0.0, future], [-1.5, -1.0, -0.5, 0.0]], [[-0.5, -0.25, 0.0, future], [-0.75, -0.5, -0.25, 0.0]]]
    assert bias.tolist() == [expected]
