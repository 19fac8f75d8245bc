"""Sampling against transformers' processors, OpenAI's formula of penalties, and the distribution it is to follow."""

import itertools
import math

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from neox_code.generation.request import SamplingSettings
from neox_code.generation.sampling import adjust_logits, find_candidates, make_noise, sample_token

CHAINS = [
    {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    for temperature in (0.3, 1.0, 1.7)
    for top_k in (0, 1, 5, 40, 299, 1000)
    for top_p in (0.0, 0.01, 0.5, 0.95, 0.999, 1.0)
    for min_p in (0.0, 0.02, 0.5, 1.0)
]


def random_logits(seed: int = 1, vocabulary: int = 300, spread: float = 3) -> torch.Tensor:
    return spread * torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed))


def probabilities(scores: np.ndarray, settings: SamplingSettings) -> np.ndarray:
    places, weights = find_candidates(scores, settings)
    found = np.zeros(len(scores))
    found[places] = weights / weights.sum()
    return found


def sample_many(logits: torch.Tensor, settings: SamplingSettings, count: int) -> list[int]:
    return [sample_token(logits, settings, {}, (0, 0, 0, step)) for step in range(count)]


def test_the_whole_chain_equals_that_of_transformers():
    text = torch.tensor([[3, 3, 9, 250, 299, 3]])
    counts = {3: (3, 1), 9: (1, 0), 250: (1, 1), 299: (1, 0)}
    bias = {3: 2.5, 17: 9.0, 250: -4.0, 40: -100.0}
    for number, chain in enumerate(CHAINS):
        settings = SamplingSettings(**chain, repetition_penalty=1.3, logit_bias=bias)
        theirs = LogitsProcessorList(
            [
                SequenceBiasLogitsProcessor([[[token], value] for token, value in bias.items()]),
                RepetitionPenaltyLogitsProcessor(1.3),
                TemperatureLogitsWarper(settings.temperature),
            ]
        )
        theirs += [TopKLogitsWarper(settings.top_k)] if settings.top_k else []
        theirs += [TopPLogitsWarper(settings.top_p)] if 0 < settings.top_p < 1 else []
        theirs += [MinPLogitsWarper(settings.min_p)] if settings.min_p else []
        logits = random_logits(number)
        expected = theirs(text, logits[None].clone())[0].softmax(-1).numpy()
        found = probabilities(adjust_logits(logits.numpy(), settings, counts), settings)
        assert (found > 0).tolist() == (expected > 0).tolist(), chain
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=str(chain))


def test_frequency_and_presence_penalty_follow_the_formula_of_openai():
    counts = {2: (5, 4), 5: (2, 0), 7: (1, 1)}
    logits = random_logits(vocabulary=9)
    for frequency, presence in ((0.5, 0.0), (0.0, -1.5), (2.0, 0.25)):
        settings = SamplingSettings(frequency_penalty=frequency, presence_penalty=presence)
        expected = [
            mu - counts.get(token, (0, 0))[1] * frequency - float(counts.get(token, (0, 0))[1] > 0) * presence
            for token, mu in enumerate(logits.tolist())
        ]
        np.testing.assert_allclose(adjust_logits(logits.numpy(), settings, counts), expected, atol=1e-6)


def test_equal_logits_at_the_border_of_top_k_are_kept_as_by_transformers_and_top_p_keeps_the_first():
    scores = np.zeros(10, np.float32)
    settings = SamplingSettings(temperature=1, top_k=3)
    assert len(find_candidates(scores, settings)[0]) == TopKLogitsWarper(3)(None, torch.zeros(1, 10)).isfinite().sum()
    assert find_candidates(scores, SamplingSettings(temperature=1, top_p=0.25))[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("keys", [{}, {"top_k": 6, "top_p": 0.9}, {"min_p": 0.02}])
def test_samples_occur_as_often_as_they_are_probable(keys):
    settings, count = SamplingSettings(temperature=0.8, **keys), 5_000
    logits = random_logits(vocabulary=12)
    expected = probabilities(logits.numpy(), settings) * count
    found = np.bincount(sample_many(logits, settings, count), minlength=12)
    assert (found[expected == 0] == 0).all()
    kept = expected > 5
    chi_square = ((found - expected)[kept] ** 2 / expected[kept]).sum()
    assert chi_square < kept.sum() + 4 * math.sqrt(2 * kept.sum())


def test_greedy_takes_the_lowest_of_equal_tokens_and_only_allowed_ones():
    logits = torch.tensor([1.0, 7, 2, 7, 3, 2])
    greedy = SamplingSettings(top_k=2, top_p=0.5, min_p=0.5)
    assert sample_token(logits, greedy, {}, (0, 0, 0, 0)) == 1
    assert sample_token(logits, greedy, {}, (0, 0, 0, 0), np.array([0, 2, 5])) == 2
    assert sample_token(logits.bfloat16(), SamplingSettings(temperature=5e-324), {}, (0, 0, 0, 0)) in (1, 3)
    excluded = SamplingSettings(temperature=1, logit_bias={0: -math.inf, 2: -math.inf})
    assert sample_token(logits, excluded, {}, (0, 0, 0, 0), np.array([0, 2])) == 0, "the first where none is possible"
    allowed = np.array([0, 4, 5])
    drawn = {sample_token(logits, SamplingSettings(temperature=2), {}, (0, 0, 0, step), allowed) for step in range(100)}
    assert drawn == {0, 4, 5}


def test_a_rounding_difference_or_another_excluded_token_hardly_ever_changes_the_token():
    changed = 0
    for step in range(500):
        logits = random_logits(step, vocabulary=2000)
        rounding = 1 + (torch.rand(2000, generator=torch.Generator().manual_seed(step)) - 0.5) * 2**-8
        for settings in (SamplingSettings(temperature=1), SamplingSettings(temperature=0.8, top_k=50, top_p=0.95)):
            token = sample_token(logits, settings, {}, (1, 2, 3, step))
            changed += token != sample_token(logits * rounding, settings, {}, (1, 2, 3, step))
            if not settings.top_k:
                logits[(token + 1) % 2000] = -math.inf
                assert sample_token(logits, settings, {}, (1, 2, 3, step)) == token
    assert changed <= 12, "an inverse cumulative distribution changes about 100"


def test_noise_depends_on_every_part_of_its_key_and_a_larger_count_keeps_the_first_numbers():
    keys = list(itertools.product((0, 1), repeat=4))
    assert len({make_noise(key, 1)[0] for key in keys}) == len(keys)
    assert make_noise((1, 2, 3, 4), 500)[:300].tolist() == make_noise((1, 2, 3, 4), 300).tolist()
