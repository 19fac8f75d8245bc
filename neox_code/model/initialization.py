"""Initial values of weights: one function for each `init_method`, which fills a rank's part of a full weight.

A value depends on the seed, the layer and its place in the full weight (`parallel.counter_numbers`). Each rank draws its own part
on its own device, and every layout has the same values. Only the orthogonal methods compute the full matrix on every tensor rank.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from neox_code.config.model import ModelConfig
from neox_code.parallel.counter_numbers import draw_bits, to_normal, to_uniform
from neox_code.parallel.plain_layers import Initialize, WeightPart

NUMBERS_AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Type of device -> numbers that are drawn together. On a CPU they fit its cache."""

METHODS: dict[str, Callable[[ModelConfig], Initialize]] = {
    "normal": lambda model: make_normal(model.init_method_std),
    "scaled_normal": lambda model: make_normal(model.init_method_std / math.sqrt(2 * model.num_layers)),
    "single_residual_scaled_normal": lambda model: make_normal(model.init_method_std / math.sqrt(model.num_layers)),
    "small_init": lambda model: make_normal(math.sqrt(2 / (5 * model.hidden_size))),
    "wang_init": lambda model: make_normal(2 / model.num_layers / math.sqrt(model.hidden_size)),
    "orthogonal": lambda model: make_orthogonal(math.sqrt(2)),
    "scaled_orthogonal": lambda model: make_orthogonal(math.sqrt(2 / model.num_layers)),
    "xavier_uniform": lambda model: fill_xavier_uniform,
    "xavier_normal": lambda model: fill_xavier_normal,
}


def draw_part(weight: torch.Tensor, part: WeightPart, convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Fill a part of a full weight with `convert(bits)`. The weight's key is the next number of torch's default generator."""
    key = torch.randint(1 << 62, (1,), device="cpu").to(weight.device)
    rows = torch.cat([torch.arange(each.start, each.stop, device=weight.device) for each in part.rows])
    skipped = part.columns.start % 2
    columns = range(part.columns.start - skipped, part.columns.stop + part.columns.stop % 2)
    at_once = max(1, NUMBERS_AT_ONCE.get(weight.device.type, 1 << 16) // len(columns))
    for own, target in zip(rows.split(at_once), weight.split(at_once), strict=True):
        target.copy_(convert(draw_bits(key, own, columns)[0])[:, skipped:][:, : len(part.columns)])


def make_normal(standard_deviation: float) -> Initialize:
    return lambda weight, part: draw_part(weight, part, lambda bits: to_normal(bits) * standard_deviation)


def fill_xavier_normal(weight: torch.Tensor, part: WeightPart) -> None:
    make_normal(math.sqrt(2 / sum(part.shape)))(weight, part)


def fill_xavier_uniform(weight: torch.Tensor, part: WeightPart) -> None:
    bound = math.sqrt(6 / sum(part.shape))
    draw_part(weight, part, lambda bits: (to_uniform(bits) * 2 - 1) * bound)


def make_orthogonal(gain: float) -> Initialize:
    """Return a method whose full weight is the orthogonal factor of a normally distributed matrix, with the signs that make it
    unique, times `gain`."""

    def fill(weight: torch.Tensor, part: WeightPart) -> None:
        full = torch.empty(part.shape, device=weight.device)
        draw_part(full, WeightPart.whole(*part.shape), to_normal)
        is_wide = part.shape[0] < part.shape[1]
        orthogonal, triangular = torch.linalg.qr(full.t() if is_wide else full)
        orthogonal *= triangular.diagonal().sign()
        full = orthogonal.t() if is_wide else orthogonal
        own = torch.cat([full[each.start : each.stop] for each in part.rows])
        weight.copy_(own[:, part.columns.start : part.columns.stop] * gain)

    return fill


def make_input_init(model: ModelConfig) -> Initialize:
    """Return the method for embeddings and for weights that read the residual stream."""
    return METHODS[model.init_method](model)


def make_output_init(model: ModelConfig) -> Initialize:
    """Return the method for weights that write to the residual stream."""
    return METHODS[model.output_layer_init_method](model)


def initialize_in_parts(initialize: Initialize, matrices: Sequence[int]) -> Initialize:
    """Return a method for several stacked matrices in one weight, each divided over the tensor ranks.

    `matrices` has the number of rows of each; () means a single matrix. A rank holds its share of each matrix, one below the other.
    """
    if not matrices:
        return initialize

    def fill(weight: torch.Tensor, part: WeightPart) -> None:
        initialize(weight, replace(part, rows=tuple(list_shares(part, matrices))))

    return fill


def list_shares(part: WeightPart, matrices: Sequence[int]) -> Iterator[range]:
    """Yield the rows of each stacked matrix that a rank holds, as rows of the full weight."""
    ((begin, end),) = ((each.start, each.stop) for each in part.rows)
    num_ranks, first = part.shape[0] // (end - begin), 0
    for count in matrices:
        share = count // num_ranks
        start = first + begin // (end - begin) * share
        yield range(start, start + share)
        first += count


def initialize_without_padding(initialize: Initialize, vocab_size: int) -> Initialize:
    """Return a method that initializes the first `vocab_size` rows of a full weight and fills the padding with zeros.

    The number of padding rows depends on the layout. The initial values of the other rows do not.
    """

    def fill(weight: torch.Tensor, part: WeightPart) -> None:
        (rows,) = part.rows
        used = range(rows.start, max(rows.start, min(rows.stop, vocab_size)))
        initialize(weight[: len(used)], replace(part, shape=(vocab_size, part.shape[1]), rows=(used,)))
        weight[len(used) :].zero_()

    return fill
