"""Select the next token of a row from its logits. Pure functions of their arguments.

    sample_token(logits_V, SamplingSettings(temperature=0.8, top_p=0.95), {}, (seed, index, sample, step))

The order is that of transformers: logit bias, repetition penalty, frequency and presence penalty, allowed tokens, temperature,
top-k, top-p, min-p. The draw is a race: each token's probability is divided by its own exponential noise, and the highest quotient
wins. The noise depends on the key and the token's id alone, so that a rounding difference of the logits hardly ever changes the
token, and a completion is the same alone, in any batch, in any order and on any device.

Shape letters: B batch, V vocabulary without its padding, N tokens that are considered, K tokens that are kept.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from neox_code.generation.request import SamplingSettings

Counts = Mapping[int, tuple[int, int]]
"""Token id -> how often it occurs in prompt and completion together, and in the completion alone."""

NoiseKey = tuple[int, int, int, int]
"""Seed, index of the prompt, number of its sample, step; none is negative."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""Least divisor of logits, so that no temperature above 0 is 0 in fp32."""

Transform = Callable[[torch.Tensor], torch.Tensor]
"""logits_BV -> logits_BV; excluded tokens become -inf."""

Sampler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits_BV, draws_B) -> tokens_B."""


def sample_token(
    logits_V: torch.Tensor,
    settings: SamplingSettings,
    counts: Counts,
    noise_key: NoiseKey,
    allowed: NDArray[np.int64] | None = None,
) -> int:
    """Return the id of the next token of one row; `allowed` are the only ids to consider, in ascending order.

    At temperature 0 it is the token with the highest logit after bias and penalties, of several the lowest id.
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
    """Return the places of the tokens that temperature, top-k, top-p and min-p keep, and weights in proportion to their
    probabilities; the highest weight is 1.

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


def build_sampler(temperature: float, top_k: int = 0, top_p: float = 0.0) -> Sampler:
    """Return the sampler of these settings. At temperature 0 it is greedy for any `top_k` and `top_p`.

    Temperature is applied first, then `top_k`, then `top_p`; a `top_k` of 0 and a `top_p` of 0 or 1 exclude nothing.
    """
    if temperature == 0:
        return select_most_probable
    chain = [partial(divide_by_temperature, temperature=temperature)]
    if top_k:
        chain.append(partial(keep_top_k, top_k=top_k))
    if 0 < top_p < 1:
        chain.append(partial(keep_top_p, top_p=top_p))
    return partial(sample, transforms=tuple(chain))


def select_most_probable(logits_BV: torch.Tensor, draws_B: torch.Tensor) -> torch.Tensor:
    """Return the most probable tokens_B; the draws are not used."""
    return logits_BV.argmax(-1)


def sample(logits_BV: torch.Tensor, draws_B: torch.Tensor, transforms: tuple[Transform, ...]) -> torch.Tensor:
    """Return tokens_B drawn from the transformed distribution in fp32."""
    logits_BV = logits_BV.float()
    for transform in transforms:
        logits_BV = transform(logits_BV)
    return select_by_draw(logits_BV.softmax(-1), draws_B)


def divide_by_temperature(logits_BV: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return logits divided by the temperature, with the highest shifted to 0 first, so that no temperature above 0 overflows.

    >>> divide_by_temperature(torch.tensor([[1.0, 3.0]]), 0.5)
    tensor([[-4.,  0.]])
    """
    smallest = torch.finfo(torch.float32).tiny
    return (logits_BV - logits_BV.amax(-1, keepdim=True)) / max(temperature, smallest)


def keep_top_k(logits_BV: torch.Tensor, top_k: int) -> torch.Tensor:
    """Exclude all but the `top_k` tokens with the highest logits. Between equal logits the choice is arbitrary.

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    tensor([[-inf, 3., 2.]])
    """
    values, tokens = logits_BV.topk(min(top_k, logits_BV.shape[-1]))
    return torch.full_like(logits_BV, -torch.inf).scatter_(-1, tokens, values)


def keep_top_p(logits_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Exclude all but the smallest set of tokens with a total probability of at least `top_p` (Holtzman et al. 2020).

    >>> keep_top_p(torch.tensor([[0.6, 0.3, 0.1]]).log(), 0.7).exp()
    tensor([[0.6000, 0.3000, 0.0000]])
    """
    ordered, tokens = logits_BV.sort(-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return logits_BV.scatter(-1, tokens, ordered.masked_fill(before >= top_p, -torch.inf))


def select_by_draw(probabilities_BV: torch.Tensor, draws_B: torch.Tensor) -> torch.Tensor:
    """Return tokens_B, int64: the token whose interval of cumulative probability contains the draw. A token of probability 0 is
    never drawn.

    Sums are in fp64, in which their order over a vocabulary changes them by at most 1e-12.

    >>> select_by_draw(torch.tensor([[0.2, 0.0, 0.8], [0.2, 0.0, 0.8]]), torch.tensor([0.19, 0.21], dtype=torch.float64))
    tensor([0, 2])
    """
    reached_BV = probabilities_BV.double().cumsum(-1)
    return torch.searchsorted(reached_BV, (draws_B * reached_BV[:, -1])[:, None], right=True).squeeze(-1)


def make_draws(seed: int, index: int, count: int) -> np.ndarray:
    """Return `count` numbers in [0, 1) for the prompt `index`, fp64. A larger count begins with the same numbers."""
    return np.random.default_rng((seed, index)).random(count)
