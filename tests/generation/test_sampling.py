"""Sampling against transformers' logits warpers, and against the distribution it is to follow."""

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from neox_code.generation.sampling import build_sampler, divide_by_temperature, keep_top_k, keep_top_p, make_draws, select_by_draw


def logits(rows: int = 5, vocabulary: int = 300) -> torch.Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(1))


def numbers(count: int) -> torch.Tensor:
    return torch.from_numpy(make_draws(1, 1, count))


@pytest.mark.parametrize("top_k", [1, 2, 50, 300, 1000])
def test_top_k_equals_that_of_transformers(top_k):
    torch.testing.assert_close(keep_top_k(logits(), top_k), TopKLogitsWarper(top_k)(None, logits()))


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.999])
def test_top_p_equals_that_of_transformers(top_p):
    torch.testing.assert_close(keep_top_p(logits(), top_p), TopPLogitsWarper(top_p)(None, logits()))


def test_the_whole_chain_equals_that_of_transformers():
    ours = keep_top_p(keep_top_k(divide_by_temperature(logits(), 0.7), 40), 0.8)
    theirs = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(40)(None, TemperatureLogitsWarper(0.7)(None, logits())))
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1))


def test_top_k_keeps_at_most_k_equal_logits():
    assert keep_top_k(torch.zeros(2, 10), 3).isfinite().sum(-1).tolist() == [3, 3]


def test_samples_occur_as_often_as_they_are_probable():
    count = 20_000
    sampler = build_sampler(0.8, top_k=6, top_p=0.9)
    row = logits(1, 12)
    probabilities = keep_top_p(keep_top_k(row / 0.8, 6), 0.9).softmax(-1)[0]
    found = torch.bincount(sampler(row.expand(count, -1), numbers(count)), minlength=12) / count
    assert (found[probabilities == 0] == 0).all()
    torch.testing.assert_close(found, probabilities, atol=4 * (0.25 / count) ** 0.5, rtol=0)


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("top_p", [0.0, 0.5])
def test_temperature_0_is_greedy_for_any_top_k_and_top_p(top_k, top_p):
    assert build_sampler(0.0, top_k, top_p)(logits(), numbers(5)).tolist() == logits().argmax(-1).tolist()


def test_the_smallest_temperature_is_greedy_without_overflow():
    assert build_sampler(5e-324)(logits(), numbers(5)).tolist() == logits().argmax(-1).tolist()


@pytest.mark.parametrize("top_p", [0.0, 1.0])
def test_a_top_p_of_0_or_1_excludes_nothing(top_p):
    flat = torch.zeros(1000, 4)
    assert set(build_sampler(1.0, top_p=top_p)(flat, numbers(1000)).tolist()) == {0, 1, 2, 3}


def test_a_token_of_probability_0_is_never_drawn():
    edges = torch.tensor([0.0, np.nextafter(0.5, 0), 0.5, np.nextafter(1.0, 0)], dtype=torch.float64)
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]).expand(4, -1)
    assert select_by_draw(probabilities, edges).tolist() == [1, 1, 3, 3]


def test_draws_depend_on_the_prompt_and_a_larger_count_keeps_the_first_ones():
    assert (make_draws(3, 7, 10) == make_draws(3, 7, 20)[:10]).all()
    several = {tuple(make_draws(seed, index, 3)) for seed in range(5) for index in range(5)}
    assert len(several) == 25
