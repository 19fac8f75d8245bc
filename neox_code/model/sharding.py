"""A table of how each parameter is divided over tensor-parallel ranks, with its names in GPT-NeoX's files.

    get_sharding("sequential.2.mlp.dense_h_to_4h.weight").dim          # 0
    count_stacked_rows("attention.query_key_value.weight", model)           # (768, 128, 128) with grouped queries, else ()

If a parameter consists of several stacked matrices, each matrix is divided: a rank holds a share of every matrix.
Parameters that the table does not list are the same on every rank.
"""

from collections.abc import Callable
from dataclasses import dataclass

from neox_code.config.model import ModelConfig


def count_query_key_value_rows(model: ModelConfig) -> tuple[int, ...]:
    """Return the numbers of rows of queries, keys and values if heads share keys. Else return (): rows are interleaved by head."""
    shared = model.kv_heads * model.head_dim
    return (model.attention_width, shared, shared) if model.kv_heads < model.num_attention_heads else ()


def count_gate_rows(model: ModelConfig) -> tuple[int, ...]:
    """Return the numbers of rows of the two inputs (up, gate) of a gated activation; () for other activations."""
    return (model.feed_forward_size, model.feed_forward_size) if model.is_gated else ()


@dataclass(frozen=True)
class ParameterSharding:
    dim: int | None = None
    """The dimension that is divided over the tensor ranks; None: every rank has the whole parameter."""
    stacked: Callable[[ModelConfig], tuple[int, ...]] = lambda model: ()
    """A function that returns the number of rows of each stacked matrix in the whole parameter; () for a single matrix."""
    is_vocabulary: bool = False
    """True if each row belongs to an entry of the padded vocabulary."""
    is_row_bias: bool = False
    """True for the bias of a row-parallel layer, whose weight is divided along its inputs. This bias is added once, after the sum
    over the ranks."""
    newer_name: str | None = None
    """The parameter's name in newer GPT-NeoX checkpoints. This package writes the newer name only with a gated activation."""


SHARDING = {
    "word_embeddings.weight": ParameterSharding(0, is_vocabulary=True),
    "final_linear.weight": ParameterSharding(0, is_vocabulary=True),
    "attention.query_key_value.weight": ParameterSharding(0, count_query_key_value_rows),
    "attention.query_key_value.bias": ParameterSharding(0, count_query_key_value_rows),
    "attention.dense.weight": ParameterSharding(1),
    "attention.dense.bias": ParameterSharding(is_row_bias=True),
    "mlp.dense_h_to_4h.weight": ParameterSharding(0, count_gate_rows, newer_name="mlp.linear1.weight"),
    "mlp.dense_h_to_4h.bias": ParameterSharding(0, count_gate_rows, newer_name="mlp.linear1.bias"),
    "mlp.dense_4h_to_h.weight": ParameterSharding(1, newer_name="mlp.linear2.weight"),
    "mlp.dense_4h_to_h.bias": ParameterSharding(is_row_bias=True, newer_name="mlp.linear2.bias"),
}
"""End of a parameter's name -> its sharding."""

WHOLE = ParameterSharding()


def get_sharding(name: str) -> ParameterSharding:
    """Return the sharding of a parameter by its name, in a layer or in a whole model."""
    return next((sharding for end, sharding in SHARDING.items() if name.endswith(end)), WHOLE)


def count_stacked_rows(name: str, model: ModelConfig) -> tuple[int, ...]:
    """Return the number of rows of each stacked matrix in the whole parameter; () for a single matrix."""
    return get_sharding(name).stacked(model)
