"""Initial values of weights: one function per `init_method`, each filling a full fp32 weight in place.

normal         N(0, init_method_std^2)
scaled_normal  N(0, init_method_std^2 / (2 L))     GPT-2's scaling of what writes to the residual stream, L layers
small_init     N(0, 2 / (5 h))                     Nguyen and Salazar 2019, "Transformers without Tears"
wang_init      N(0, (2 / L)^2 / h)                 Wang and Komatsuzaki 2021, mesh-transformer-jax
"""

import math
from collections.abc import Callable

import torch

from neox_code.config.model import ModelConfig
from neox_code.parallel.plain_layers import Initialize

STANDARD_DEVIATIONS: dict[str, Callable[[ModelConfig], float]] = {
    "normal": lambda model: model.init_method_std,
    "scaled_normal": lambda model: model.init_method_std / math.sqrt(2 * model.num_layers),
    "small_init": lambda model: math.sqrt(2 / (5 * model.hidden_size)),
    "wang_init": lambda model: 2 / model.num_layers / math.sqrt(model.hidden_size),
}


def normal(standard_deviation: float) -> Initialize:
    return lambda weight: weight.normal_(0.0, standard_deviation)


def input_init(model: ModelConfig) -> Initialize:
    """For weights that read the residual stream, and for embeddings."""
    return normal(STANDARD_DEVIATIONS[model.init_method](model))


def output_init(model: ModelConfig) -> Initialize:
    """For weights that write to the residual stream."""
    return normal(STANDARD_DEVIATIONS[model.output_layer_init_method](model))


def unpadded(initialize: Initialize, vocab_size: int) -> Initialize:
    """Fills the rows of real tokens as if there were no others, and the padding with zeros: padding differs between layouts."""

    def fill(weight: torch.Tensor) -> None:
        initialize(weight[:vocab_size])
        weight[vocab_size:].zero_()

    return fill
