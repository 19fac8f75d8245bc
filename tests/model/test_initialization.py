"""Initial values by their published variances, and part by part."""

import math
from collections.abc import Callable

import pytest
import torch

from neox_code.model.initialization import (
    METHODS,
    initialize_in_parts,
    initialize_without_padding,
    make_input_init,
    make_output_init,
)
from neox_code.parallel.plain_layers import Initialize, WeightPart

ROWS, COLUMNS = 192, 64
VARIANCES = {
    "normal": 0.02**2,
    "scaled_normal": 0.02**2 / 6,
    "single_residual_scaled_normal": 0.02**2 / 3,
    "small_init": 2 / (5 * 64),
    "wang_init": (2 / 3) ** 2 / 64,
    "xavier_uniform": 2 / (ROWS + COLUMNS),
    "xavier_normal": 2 / (ROWS + COLUMNS),
    "orthogonal": 2 / ROWS,
    "scaled_orthogonal": 2 / 3 / ROWS,
}


def fill_whole(fill: Initialize) -> torch.Tensor:
    weight = torch.empty(ROWS, COLUMNS)
    fill(weight, WeightPart.whole(ROWS, COLUMNS))
    return weight


@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_its_published_variance(model_config, method):
    torch.manual_seed(0)
    model = model_config(init_method=method, output_layer_init_method=method)
    for fill in (make_input_init(model), make_output_init(model)):
        weight = fill_whole(fill)
        assert weight.mean().item() == pytest.approx(0, abs=0.05 * math.sqrt(VARIANCES[method]))
        assert weight.var().item() == pytest.approx(VARIANCES[method], rel=0.05)


@pytest.mark.parametrize("method", ["normal", "xavier_uniform", "scaled_orthogonal"])
def test_parts_have_the_values_of_the_full_weight(model_config, method):
    """With stacked matrices of which a rank has its share, odd columns, padding and rounding."""
    fill = make_input_init(model_config(init_method=method))

    def draw(initialize: Callable, part: WeightPart, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        torch.manual_seed(5)
        weight = torch.empty(sum(map(len, part.rows)), len(part.columns), dtype=dtype)
        initialize(weight, part)
        return weight

    whole = draw(fill, WeightPart.whole(12, 9))
    assert len(whole.unique()) > 100
    stacked = initialize_in_parts(fill, (8, 4))
    for rank, rows in enumerate(([0, 1, 8], [2, 3, 9], [4, 5, 10], [6, 7, 11])):
        part = WeightPart((12, 9), (range(3 * rank, 3 * rank + 3),), range(9))
        assert torch.equal(draw(stacked, part), whole[rows])
    for columns in (range(3), range(3, 6), range(6, 9)):
        assert torch.equal(draw(fill, WeightPart((12, 9), (range(12),), columns)), whole[:, columns.start : columns.stop])
    padded = initialize_without_padding(fill, 12)
    for rows in (range(10), range(10, 20), range(20, 30)):
        expected = torch.cat([whole, torch.zeros(18, 9)])[rows.start : rows.stop]
        assert torch.equal(draw(padded, WeightPart((30, 9), (rows,), range(9)), torch.bfloat16), expected.bfloat16())


@pytest.mark.parametrize(("method", "gain"), [("orthogonal", math.sqrt(2)), ("scaled_orthogonal", math.sqrt(2 / 3))])
def test_orthogonal_matrices_keep_angles(model_config, method, gain):
    weight = fill_whole(make_input_init(model_config(init_method=method)))
    torch.testing.assert_close(weight.T @ weight, gain**2 * torch.eye(COLUMNS), atol=1e-5, rtol=0)


def test_xavier_uniform_values_are_within_their_bounds(model_config):
    weight = fill_whole(make_input_init(model_config(init_method="xavier_uniform")))
    bound = math.sqrt(6 / (ROWS + COLUMNS))
    assert 0.98 * bound < weight.abs().max() <= bound
