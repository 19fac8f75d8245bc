"""Optimizers against their published formulas, computed here with numpy, and in a run that stops and goes on."""

import sys

import numpy as np
import pytest
import torch
from distributed_runs import losses_of

from neox_code.config.optimizer import OptimizerConfig
from neox_code.errors import ConfigError
from neox_code.training.optimizer import Lion, build_optimizer

RATE, DECAY = 0.01, 0.3


def lion(weight, momentum, gradient, _, betas=(0.9, 0.99)):
    """Algorithm 2 of arXiv 2302.06675."""
    direction = np.sign(betas[0] * momentum + (1 - betas[0]) * gradient)
    return weight - RATE * (direction + DECAY * weight), betas[1] * momentum + (1 - betas[1]) * gradient


def sgd(weight, momentum, gradient, step, share=0.8):
    """Momentum in the form of Sutskever et al. (2013) that keeps the rate outside, with decay in the gradient."""
    gradient = gradient + DECAY * weight
    momentum = share * momentum + gradient if step else gradient
    return weight - RATE * momentum, momentum


def adam(weight, moments, gradient, step, betas=(0.9, 0.95), eps=1e-8):
    """Algorithm 2 of arXiv 1711.05101: decay is decoupled."""
    first, second = moments if step else (0.0, 0.0)
    first, second = betas[0] * first + (1 - betas[0]) * gradient, betas[1] * second + (1 - betas[1]) * gradient**2
    unbiased = first / (1 - betas[0] ** (step + 1)), second / (1 - betas[1] ** (step + 1))
    return weight - RATE * (unbiased[0] / (np.sqrt(unbiased[1]) + eps) + DECAY * weight), (first, second)


@pytest.mark.parametrize(
    ("formula", "settings"),
    [
        (lion, {"optimizer_type": "lion"}),
        (sgd, {"optimizer_type": "sgd", "momentum": 0.8}),
        (adam, {"optimizer_type": "adam", "betas": (0.9, 0.95)}),
        (adam, {"optimizer_type": "adamw", "betas": (0.9, 0.95)}),
    ],
)
def test_ten_steps_of_lion_equal_the_published_formula(formula, settings):
    random = np.random.default_rng(1)
    weight = random.normal(size=(3, 5))
    parameter = torch.nn.Parameter(torch.tensor(weight))
    optimizer = build_optimizer(OptimizerConfig(lr=RATE, weight_decay=DECAY, **settings), [parameter])
    state = np.zeros_like(weight)
    for step in range(10):
        gradient = random.normal(size=weight.shape)
        weight, state = formula(weight, state, gradient, step)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-9, atol=1e-12)


def test_lion_skips_weights_without_a_gradient_and_restores_its_state():
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = Lion([used, unused], lr=0.5)
    used.grad = torch.tensor([1.0, 0.0])
    assert optimizer.step(lambda: 3.0) == 3.0
    assert used.tolist() == [0.5, 1.0]
    assert unused.tolist() == [1.0, 1.0]
    again = Lion([used, unused], lr=0.5)
    again.load_state_dict(optimizer.state_dict())
    torch.testing.assert_close(again.state[used]["exp_avg"], torch.tensor([0.01, 0.0]))


def test_biases_and_norms_have_no_weight_decay():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(OptimizerConfig(lr=0.5, weight_decay=0.1, optimizer_type="lion"), [matrix, vector])
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))
    assert vector.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["adam", "sgd", "lion"])
def test_eight_bit_states_without_bitsandbytes_name_the_package(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    section = OptimizerConfig(lr=1.0, optimizer_type=kind, use_bnb_optimizer=True)
    with pytest.raises(ConfigError, match=r"package bitsandbytes is missing\. Run: pip install"):
        build_optimizer(section, [torch.nn.Parameter(torch.ones(2, 2))])


def test_cpu_adam_without_a_compiler_names_what_to_install(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Ninja is required to load C++ extensions\nand more")

    monkeypatch.setattr("neox_code.training.optimizer.DeepSpeedCPUAdam", fails)
    with pytest.raises(ConfigError, match=r"\(Ninja is required to load C\+\+ extensions\)\. Install a C\+\+ compiler and ninja"):
        build_optimizer(OptimizerConfig(lr=1.0, optimizer_type="cpu_adam"), [torch.nn.Parameter(torch.ones(2, 2))])


@pytest.mark.parametrize(
    "optimizer",
    [{"type": "Lion", "params": {"lr": 1e-3}}, {"type": "SGD", "params": {"lr": 0.3, "momentum": 0.9}}],
    ids=["lion", "sgd"],
)
def test_a_run_with_each_optimizer_learns_and_resumes(job, tmp_path, optimizer):
    file, save = job(optimizer=optimizer), tmp_path / "halves"
    whole = losses_of(1, file, tmp_path / "whole")
    losses_of(1, file, save, load=str(save), exit_interval=3)
    assert losses_of(1, file, save, load=str(save)) == whole
    assert whole[-1] < whole[0]
