"""Select the next token from logits: a chain of transforms, then one draw. Pure functions of their arguments.

    sample = build_sampler(temperature=0.8, top_k=40, top_p=0.95)
    tokens_B = sample(logits_BV, draws_B)

The caller passes the randomness, one number in [0, 1) per token. A prompt's numbers depend on the seed and the prompt's index,
`make_draws(seed, index, count)`, so that its completion is the same alone, in any batch, in any order and on any device.

Shape letters: B batch, V vocabulary without its padding.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

Transform = Callable[[torch.Tensor], torch.Tensor]
"""logits_BV -> logits_BV; excluded tokens become -inf."""

Sampler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits_BV, draws_B) -> tokens_B."""


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
