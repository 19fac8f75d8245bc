"""Initial values by their published variances, and in every order of tensor ranks."""

import math

import pytest
import torch

from neox_code.model.initialization import METHODS, initialize_in_parts, make_input_init, make_output_init

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


@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_its_published_variance(model_config, method):
    torch.manual_seed(0)
    model = model_config(init_method=method, output_layer_init_method=method)
    for fill in (make_input_init(model), make_output_init(model)):
        weight = torch.empty(ROWS, COLUMNS)
        fill(weight)
        assert weight.mean().item() == pytest.approx(0, abs=0.05 * math.sqrt(VARIANCES[method]))
        assert weight.var().item() == pytest.approx(VARIANCES[method], rel=0.05)


@pytest.mark.parametrize(("method", "gain"), [("orthogonal", math.sqrt(2)), ("scaled_orthogonal", math.sqrt(2 / 3))])
def test_orthogonal_matrices_keep_angles(model_config, method, gain):
    weight = torch.empty(ROWS, COLUMNS)
    make_input_init(model_config(init_method=method))(weight)
    torch.testing.assert_close(weight.T @ weight, gain**2 * torch.eye(COLUMNS), atol=1e-5, rtol=0)


def test_xavier_uniform_values_are_within_their_bounds(model_config):
    weight = torch.empty(ROWS, COLUMNS)
    make_input_init(model_config(init_method="xavier_uniform"))(weight)
    bound = math.sqrt(6 / (ROWS + COLUMNS))
    assert 0.98 * bound < weight.abs().max() <= bound


def test_each_tensor_rank_gets_its_share_of_every_stacked_matrix():
    weight = torch.empty(12, 1)
    initialize_in_parts(lambda rows: rows.copy_(torch.arange(12.0)[:, None]), (8, 4), 4)(weight)
    assert weight.flatten().tolist() == [0, 1, 8, 2, 3, 9, 4, 5, 10, 6, 7, 11]
