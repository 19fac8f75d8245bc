"""Select the next token of a row from its logits. Pure functions of their arguments.

    sample_token(logits_V, SamplingSettings(temperature=0.8, top_p=0.95), {}, (seed, index, sample, step))

The order is that of transformers: logit bias, repetition penalty, frequency and presence penalty, allowed tokens, temperature,
top-k, top-p, min-p. The draw is a race: each token's probability is divided by its own exponential noise, and the highest quotient
wins. The noise depends on the key and the token's id alone, so that a rounding difference of the logits hardly ever changes the
token, and a completion is the same alone, in any batch, in any order and on any device.

Shape letters: V vocabulary without its padding, N tokens that are considered, K tokens that are kept.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from neox_code.generation.request import SamplingSettings

Counts = Mapping[int, tuple[int, int]]
"""Token id -> how often it occurs in prompt and completion together, and in the completion alone."""

NoiseKey = tuple[int, int, int, int]
"""Seed, index of the prompt, number of its sample, step; none is negative."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""Minimum divisor of logits, so that no temperature above 0 is 0 in fp32."""


def sample_token(
    logits_V: torch.Tensor,
    settings: SamplingSettings,
    counts: Counts,
    noise_key: NoiseKey,
    allowed: NDArray[np.int64] | None = None,
) -> int:
    """Return the id of the next token of one row; `allowed` are the only ids to consider, in ascending order.

    At temperature 0 it is the token with the highest logit after bias and penalties; in a tie, the one with the lowest id.
    """
    scores_N = adjust_logits(logits_V.float().cpu().numpy(), settings, counts)
    if allowed is not None:
        scores_N = scores_N[allowed]
    highest = int(scores_N.argmax())
    if settings.temperature > 0 and np.isfinite(scores_N[highest]):
        places_K, weights_K = find_candidates(scores_N, settings)
        ids_K = places_K if allowed is None else allowed[places_K]
        highest = int(places_K[np.argmax(weights_K / make_noise(noise_key, int(ids_K.max()) + 1)[ids_K])])
    return highest if allowed is None else int(allowed[highest])


def adjust_logits(logits_V: NDArray[np.float32], settings: SamplingSettings, counts: Counts) -> NDArray[np.float32]:
    """Return the logits with bias and penalties.

    >>> settings = SamplingSettings(logit_bias={0: 5}, repetition_penalty=2, frequency_penalty=1, presence_penalty=0.5)
    >>> adjust_logits(np.array([1, -1, 4, 8], np.float32), settings, {1: (1, 0), 2: (3, 3)})
    array([ 6. , -2. , -1.5,  8. ], dtype=float32)
    """
    repetition, frequency, presence = settings.repetition_penalty, settings.frequency_penalty, settings.presence_penalty
    is_penalized = bool(counts) and (repetition, frequency, presence) != (1, 0, 0)
    if not settings.logit_bias and not is_penalized:
        return logits_V
    scores_V = logits_V.copy()
    for token_id, bias in settings.logit_bias.items():
        scores_V[token_id] += bias
    if is_penalized:
        ids = np.fromiter(counts, np.int64)
        occurrences, completed = np.array(list(counts.values())).T
        found = scores_V[ids]
        repeated = np.where(found < 0, found * repetition, found / repetition)
        found = np.where(occurrences > 0, repeated, found)
        scores_V[ids] = found - frequency * completed - presence * (completed > 0)
    return scores_V


def find_candidates(scores_N: NDArray[np.float32], settings: SamplingSettings) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the indices of the tokens that temperature, top-k, top-p and min-p keep, and their weights. Weights are proportional
    to the probabilities; the highest weight is 1.

    All tokens that equal the k-th are kept. Between equal tokens at the border of top-p, the first are kept.

    >>> find_candidates(np.log(np.array([1, 8, 2, 4], np.float32)), SamplingSettings(temperature=1, top_p=0.9))
    (array([1, 2, 3]), array([1.  , 0.25, 0.5 ], dtype=float32))
    """
    with np.errstate(over="ignore"):
        scores_N = (scores_N - scores_N.max()) / np.float32(max(settings.temperature, SMALLEST))
    places = np.arange(len(scores_N))
    if 0 < settings.top_k < len(scores_N):
        places = np.flatnonzero(scores_N >= np.partition(scores_N, -settings.top_k)[-settings.top_k])
    weights = np.exp(scores_N[places])
    if 0 < settings.top_p < 1:
        total = weights.sum(dtype=np.float64)
        # Tokens below their share of 1 - top_p are outside top_p, all of them together: only the others need to be sorted.
        falling = -np.sort(-weights[weights >= total * (1 - settings.top_p) / len(weights)])
        num_kept = np.count_nonzero(falling.cumsum(dtype=np.float64) - falling < settings.top_p * total)
        is_kept = weights > falling[num_kept - 1]
        is_kept[np.flatnonzero(weights == falling[num_kept - 1])[: num_kept - np.count_nonzero(is_kept)]] = True
        places, weights = places[is_kept], weights[is_kept]
    if settings.min_p > 0:
        is_kept = weights >= settings.min_p
        places, weights = places[is_kept], weights[is_kept]
    return places, weights


def make_noise(noise_key: NoiseKey, count: int) -> NDArray[np.float64]:
    """Return `count` exponentially distributed numbers, one for each token id. A larger count begins with the same numbers."""
    seed, *place = noise_key
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=place))).standard_exponential(count)
