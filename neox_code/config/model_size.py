"""Compute numbers of parameters and FLOPs from the configuration, without building a model.

count_parameters(config.model, padded_vocab_size)                              # 162,322,944 for small
count_block_parameters(config.model).count_on_rank(tensor_parallel_size=2)           # number on one of two tensor-parallel ranks
"""

from dataclasses import dataclass

from neox_code.config.model import ModelConfig


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: `divided` over the tensor-parallel ranks, and `whole` on each rank."""

    divided: int = 0
    """Number of parameters that are divided: each of them is on only one tensor-parallel rank."""

    whole: int = 0
    """Number of parameters that every tensor rank has: norms, positions, and biases that are added after the all-reduce."""

    def __add__(self, other: "Parameters") -> "Parameters":
        return Parameters(self.divided + other.divided, self.whole + other.whole)

    def __mul__(self, times: int) -> "Parameters":
        return Parameters(self.divided * times, self.whole * times)

    @property
    def total(self) -> int:
        return self.divided + self.whole

    def count_on_rank(self, tensor_parallel_size: int) -> int:
        return self.divided // tensor_parallel_size + self.whole


def count_norm_parameters(model: ModelConfig) -> Parameters:
    """Return the number of parameters of one norm. rmsnorm has a weight; layernorm has a weight and a bias."""
    return Parameters(whole=(1 if model.norm == "rmsnorm" else 2) * model.hidden_size)


def compute_projection_width(model: ModelConfig) -> int:
    """Return the number of rows of the fused query, key and value projection. Heads may share keys and values."""
    return model.attention_width + 2 * model.kv_heads * model.head_dim


def count_feed_forward_rows(model: ModelConfig) -> int:
    """Return the number of rows of the feed-forward layer's first matrix: the layer's width, or twice the width if it is gated."""
    return (2 if model.is_gated else 1) * model.feed_forward_size


def count_block_matrices(model: ModelConfig) -> int:
    """Return the number of weights in the matrices of one transformer block."""
    attention = (compute_projection_width(model) + model.attention_width) * model.hidden_size
    feed_forward = (count_feed_forward_rows(model) + model.feed_forward_size) * model.hidden_size
    return attention + feed_forward


def count_block_biases(model: ModelConfig) -> Parameters:
    hidden = model.hidden_size
    attention = Parameters(compute_projection_width(model), hidden) if model.use_bias_in_attn_linear else Parameters()
    feed_forward = Parameters(count_feed_forward_rows(model), hidden) if model.use_bias_in_mlp else Parameters()
    return attention + feed_forward


def count_block_parameters(model: ModelConfig) -> Parameters:
    """Return the number of parameters of a transformer block: projections with their biases, norms, and factors of residuals. With
    `value_residual` the first block has two less."""
    head_norms = Parameters(whole=2 * model.head_dim if model.qk_norm else 0)
    factors = Parameters(whole=2 * (model.embedding_skip + model.value_residual))
    matrices = Parameters(divided=count_block_matrices(model))
    return matrices + count_block_biases(model) + count_norm_parameters(model) * 2 + head_norms + factors


def count_embedding_parameters(model: ModelConfig, padded_vocab_size: int) -> Parameters:
    vectors = (model.max_position_embeddings if model.pos_emb == "learned" else 0) + model.token_smear
    return Parameters(divided=padded_vocab_size * model.hidden_size, whole=vectors * model.hidden_size)


def count_head_parameters(model: ModelConfig, padded_vocab_size: int) -> Parameters:
    """Return the number of parameters that only the output head has; 0 if the head uses the weights of the embedding."""
    return Parameters(divided=padded_vocab_size * model.hidden_size if model.no_weight_tying else 0)


def count_parameters(model: ModelConfig, padded_vocab_size: int) -> int:
    """Return the number of all parameters, padding included."""
    ends = (
        count_embedding_parameters(model, padded_vocab_size)
        + count_norm_parameters(model)
        + count_head_parameters(model, padded_vocab_size)
    )
    return (count_block_parameters(model) * model.num_layers + ends).total - 2 * model.value_residual


def compute_training_flops_per_token(model: ModelConfig, padded_vocab_size: int, sequence_length: int) -> float:
    """Return the FLOPs per token of a forward and a backward pass: 6 N + 12 L a S.

    N is the number of weights in matrix products. It includes the output head but not the embedding, which is a lookup. 12 L a S
    counts the products of attention: L layers, a dimensions of all heads together, S tokens of context. The causal mask and
    recomputation do not change the number, as in PaLM (Chowdhery et al. 2022, appendix B), Megatron-LM and nanochat.
    """
    matrices = model.num_layers * count_block_matrices(model)
    head = padded_vocab_size * model.hidden_size
    return 6.0 * (matrices + head) + 12.0 * model.num_layers * model.attention_width * sequence_length
