"""Learning rates against torch's schedulers, and past their end."""

import itertools
import math

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ExponentialLR, LinearLR, SequentialLR

from neox_code.config.optimizer import OptimizerConfig
from neox_code.training.schedule import learning_rate, scheduled_rate

DECAYS = {
    "cosine": lambda optimizer, floor, steps: CosineAnnealingLR(optimizer, steps, eta_min=floor),
    "linear": lambda optimizer, floor, steps: LinearLR(optimizer, 1.0, 0.0, steps),
    "exponential": lambda optimizer, floor, steps: ExponentialLR(optimizer, math.exp(-0.693 / steps)),
    "constant": lambda optimizer, floor, steps: ConstantLR(optimizer, 1.0, steps),
}
"""After warm-up, as GPT-NeoX has them: linear falls towards 0, and no rate is below `min_lr`."""


@pytest.mark.parametrize("style", DECAYS)
def test_rates_are_those_of_torch(style):
    peak, floor, warmup, end = 0.01, 0.001, 5, 50
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    decay = DECAYS[style](optimizer, floor, end - warmup)
    expected = SequentialLR(optimizer, [LinearLR(optimizer, 1e-9, 1.0, warmup), decay], [warmup])
    for step in range(1, end + 1):
        optimizer.step()
        expected.step()
        rate = max(floor, optimizer.param_groups[0]["lr"]) if step > warmup else optimizer.param_groups[0]["lr"]
        assert learning_rate(step, peak, floor, style, warmup, end) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize("style", DECAYS)
def test_no_rate_climbs_after_its_lowest(style):
    section = OptimizerConfig(lr=6e-4, min_lr=6e-5, lr_decay_style=style, lr_decay_iters=100, warmup=0.1)
    rates = [scheduled_rate(step, section, 400) for step in range(10, 401)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
    ends = {"constant": 6e-4, "exponential": pytest.approx(6e-5, rel=1e-3)}
    assert rates[-1] == ends.get(style, 6e-5)


def test_the_decay_ends_at_a_share_of_the_steps():
    section = OptimizerConfig(lr=1.0, lr_decay_fraction=0.8, warmup=0)
    assert [round(scheduled_rate(step, section, 105), 6) for step in (21, 42, 84, 100)] == [0.75, 0.5, 0.0, 0.0]


def test_a_warm_up_may_end_between_two_steps():
    section = OptimizerConfig(lr=1.0, lr_decay_style="constant", warmup=0.25)
    assert [scheduled_rate(step, section, 10) for step in (1, 2, 3)] == [0.4, 0.8, 1.0]
