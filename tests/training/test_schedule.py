"""Learning rates against torch's schedulers, and past their end."""

import itertools

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from neox_code.config.optimizer import OptimizerConfig
from neox_code.training.schedule import learning_rate, scheduled_rate


@pytest.mark.parametrize("style", ["cosine", "linear"])
def test_rates_are_those_of_torch(style):
    peak, floor, warmup, end = 0.01, 0.001, 5, 50
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    decay = {
        "cosine": lambda: CosineAnnealingLR(optimizer, end - warmup, eta_min=floor),
        "linear": lambda: LinearLR(optimizer, 1.0, floor / peak, end - warmup),
    }[style]()
    expected = SequentialLR(optimizer, [LinearLR(optimizer, 1e-9, 1.0, warmup), decay], [warmup])
    for step in range(1, end + 1):
        optimizer.step()
        expected.step()
        assert learning_rate(step, peak, floor, style, warmup, end) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-5)


@pytest.mark.parametrize("style", ["cosine", "linear"])
def test_no_rate_climbs_after_its_lowest(style):
    section = OptimizerConfig(lr=6e-4, min_lr=6e-5, lr_decay_style=style, lr_decay_iters=100, warmup=0.1)
    rates = [scheduled_rate(step, section, 400) for step in range(10, 401)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
    assert rates[-1] == rates[100] == 6e-5
