"""Initial values of weights: one function for each `init_method`, which fills a full fp32 weight in place.

normal                          N(0, init_method_std^2)
scaled_normal                   N(0, init_method_std^2 / (2 L))     GPT-2's scaling of weights that write to the residual stream
single_residual_scaled_normal   N(0, init_method_std^2 / L)
small_init                      N(0, 2 / (5 h))                     Nguyen and Salazar 2019, "Transformers without Tears"
wang_init                       N(0, (2 / L)^2 / h)                 Wang and Komatsuzaki 2021, mesh-transformer-jax
orthogonal                      sqrt(2) times an orthogonal matrix  Saxe et al. 2013
scaled_orthogonal               sqrt(2 / L) times an orthogonal matrix
xavier_uniform, xavier_normal   variance 2 / (rows + columns)       Glorot and Bengio 2010

L is the number of layers, h the hidden size.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from neox_code.config.model import ModelConfig
from neox_code.parallel.plain_layers import Initialize

METHODS: dict[str, Callable[[ModelConfig], Initialize]] = {
    "normal": lambda model: make_normal(model.init_method_std),
    "scaled_normal": lambda model: make_normal(model.init_method_std / math.sqrt(2 * model.num_layers)),
    "single_residual_scaled_normal": lambda model: make_normal(model.init_method_std / math.sqrt(model.num_layers)),
    "small_init": lambda model: make_normal(math.sqrt(2 / (5 * model.hidden_size))),
    "wang_init": lambda model: make_normal(2 / model.num_layers / math.sqrt(model.hidden_size)),
    "orthogonal": lambda model: make_orthogonal(math.sqrt(2)),
    "scaled_orthogonal": lambda model: make_orthogonal(math.sqrt(2 / model.num_layers)),
    "xavier_uniform": lambda model: nn.init.xavier_uniform_,
    "xavier_normal": lambda model: nn.init.xavier_normal_,
}


def make_normal(standard_deviation: float) -> Initialize:
    return lambda weight: weight.normal_(0.0, standard_deviation)


def make_orthogonal(gain: float) -> Initialize:
    return lambda weight: nn.init.orthogonal_(weight, gain)


def make_input_init(model: ModelConfig) -> Initialize:
    """Return the method for embeddings and for weights that read the residual stream."""
    return METHODS[model.init_method](model)


def make_output_init(model: ModelConfig) -> Initialize:
    """Return the method for weights that write to the residual stream."""
    return METHODS[model.output_layer_init_method](model)


def initialize_in_parts(initialize: Initialize, parts: Sequence[int], tensor_size: int) -> Initialize:
    """Return a function that initializes several stacked matrices in one weight, each divided over the tensor ranks.

    `parts` contains the number of rows of each matrix; () means a single matrix. The rows of the filled weight are ordered by
    tensor rank.
    """
    if not parts:
        return initialize

    def fill(weight: torch.Tensor) -> None:
        initialize(weight)
        weight.copy_(order_by_rank(weight, parts, tensor_size))

    return fill


def order_by_rank(weight: torch.Tensor, parts: Sequence[int], tensor_size: int) -> torch.Tensor:
    """Reorder the rows [part 0 | part 1 | ...] to [rank 0's share of each part | rank 1's share of each part | ...].

    >>> order_by_rank(torch.arange(6), (4, 2), 2).tolist()
    [0, 1, 4, 2, 3, 5]
    """
    shares = [part.chunk(tensor_size) for part in weight.split(list(parts))]
    return torch.cat([share for rank in zip(*shares, strict=True) for share in rank])


def initialize_without_padding(initialize: Initialize, vocab_size: int) -> Initialize:
    """Return a function that initializes the first `vocab_size` rows of a weight and fills the padding with zeros.

    The number of padding rows depends on the layout. The initial values of the other rows do not.
    """

    def fill(weight: torch.Tensor) -> None:
        initialize(weight[:vocab_size])
        weight[vocab_size:].zero_()

    return fill
