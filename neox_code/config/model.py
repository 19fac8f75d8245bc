"""The shape of the model: GPT-NeoX's keys of the same names."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    num_layers: int
    """Number of transformer blocks."""

    hidden_size: int
    """Width of the residual stream; a multiple of `num_attention_heads`."""

    num_attention_heads: int
    """Number of attention heads; a multiple of `model_parallel_size`."""

    max_position_embeddings: int
    """Longest context, in tokens; learned positions have this many rows."""

    seq_length: int | None = None
    """Tokens in a training sample; default `max_position_embeddings`."""

    intermediate_size: int | None = None
    """Width of the feed-forward layer; default 4 * `hidden_size`."""

    norm: Literal["layernorm"] = "layernorm"
    """Normalization before attention, before the feed-forward layer and before the head."""

    layernorm_epsilon: float = 1e-5
    """Added to the variance by layer norm."""

    pos_emb: Literal["rotary", "learned", "none"] = "learned"
    """Position information: rotary turns queries and keys, learned adds a vector to the embedding."""

    rotary_pct: float = 1.0
    """Share of each head's dimensions that rotary positions turn."""

    rotary_emb_base: float = 10000
    """Base of the rotary frequencies."""

    no_weight_tying: bool = False
    """True: the output head has weights of its own. False: it uses the embedding's."""

    gpt_j_residual: bool = False
    """True: attention and feed-forward read the same input and their sum is added (GPT-J). False: one after the other."""

    activation: Literal["gelu"] = "gelu"
    """Activation of the feed-forward layer."""

    bias_gelu_fusion: bool = False
    """True: GELU by its tanh approximation, as GPT-NeoX's fused kernel computes it. False: exact GELU."""

    hidden_dropout: float = 0.0
    """Dropout after attention, feed-forward and embedding, while training."""

    attention_dropout: float = 0.0
    """Dropout of attention probabilities, while training."""

    init_method: Literal["normal", "scaled_normal", "small_init", "wang_init"] = "normal"
    """Initialization of input projections and embeddings."""

    output_layer_init_method: Literal["normal", "scaled_normal", "small_init", "wang_init"] = "scaled_normal"
    """Initialization of the projections that write to the residual stream."""

    init_method_std: float = 0.02
    """Standard deviation of `normal`; `scaled_normal` divides it by sqrt(2 * `num_layers`)."""

    make_vocab_size_divisible_by: int = 128
    """The vocabulary is padded to a multiple of this times `model_parallel_size`."""

    mask_padded_vocab: bool = True
    """True: padded vocabulary entries never enter the softmax, so the loss does not depend on the layout.
    False: they do, as in GPT-NeoX."""

    precision: Literal["fp32", "fp16", "bfloat16"] = "fp32"
    """Type of weights and activations while training; fp16 needs a GPU. The optimizer keeps fp32 weights in any case."""

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def feed_forward_size(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def sample_length(self) -> int:
        """Tokens in a training sample: `seq_length`, or the longest context."""
        return self.seq_length or self.max_position_embeddings
