"""The gradient norm of a step against torch's in fp64, and a step whose gradients are not finite."""

import pytest
import torch
from distributed_runs import run_ranks

from neox_code.benchmarks.timed_steps import build_engine_for_steps
from neox_code.config.neox import NeoXConfig
from neox_code.parallel.startup import startup
from neox_code.training.gradient_norm import compute_sum_of_squares
from neox_code.training.step import choose_step_functions

ENGINES = [{}, {"gradient_predivide_factor": 1.0}]
"""Keys for the plain engine and for DeepSpeed's."""


def test_many_bf16_squares_are_summed_as_in_fp64():
    torch.manual_seed(0)
    tensor = (torch.randn(5_000_003) * 1e-3).bfloat16()
    assert compute_sum_of_squares(tensor).item() == pytest.approx(tensor.double().square().sum().item(), rel=1e-6)


def norm_and_weights(file, keys, spoil):
    """The norm that a step reports, the one that autograd's gradients have, and whether the step changed the weights."""
    config = NeoXConfig.load([file], {"pipe_parallel_size": 0, **keys})
    with startup(config.parallelism) as grid:
        engine = build_engine_for_steps(config, 512, grid)
        parameter = next(engine.module.parameters())
        seen = []
        if spoil:
            parameter.register_hook(lambda gradient: torch.full_like(gradient, torch.nan))
        for each in engine.module.parameters():
            each.register_hook(lambda gradient: seen.append(gradient.double().square().sum()))
        before = parameter.detach().clone()
        tokens = torch.randint(0, 512, (engine.train_micro_batch_size_per_gpu(), config.model.sample_length + 1))
        batch = (tokens[:, :-1], (tokens[:, 1:], torch.ones(tokens[:, 1:].shape)))
        result = choose_step_functions(engine)[0](engine, iter([batch]), grid)()
        return result.gradient_norm, torch.stack(seen).sum().sqrt().item(), bool((parameter != before).any())


@pytest.mark.parametrize("keys", ENGINES)
def test_a_step_reports_the_norm_of_its_gradients(job, keys):
    ((reported, expected, is_changed),) = run_ranks(1, norm_and_weights, job(train_batch_size=2), keys, False)
    assert reported == pytest.approx(expected, rel=1e-5) and is_changed


@pytest.mark.parametrize("keys", ENGINES)
def test_gradients_that_are_not_finite_change_no_weight(job, keys):
    ((reported, _, is_changed),) = run_ranks(1, norm_and_weights, job(train_batch_size=2), keys, True)
    assert reported is None and not is_changed
