"""Keys of the model's shape, with GPT-NeoX's names."""

from dataclasses import dataclass
from typing import Literal

InitMethod = Literal[
    "normal",
    "scaled_normal",
    "orthogonal",
    "scaled_orthogonal",
    "xavier_uniform",
    "xavier_normal",
    "wang_init",
    "small_init",
    "single_residual_scaled_normal",
]

MOST_LAYERS = 10_000
"""Greatest accepted number of layers."""

GATED = ("geglu", "reglu", "swiglu", "glu", "bilinear")
"""Gated activations: one half of the feed-forward layer is multiplied by a function of the other half."""


def compute_feed_forward_size(
    hidden_size: int, intermediate_size: int | None, expansion_factor: float | None, activation: str, multiple_of: int
) -> int:
    """Return the width of the feed-forward layer after its activation, by GPT-NeoX's rules. A gated layer has two thirds of the
    configured width before the gate and one third after it. The example is LLaMA 2 7B, whose width is 11008.

    >>> compute_feed_forward_size(4096, 32768, None, "swiglu", 256)
    11008
    """
    width = intermediate_size or int((expansion_factor or 4) * hidden_size)
    width = width // 3 if activation in GATED else width
    return -(-width // multiple_of) * multiple_of


@dataclass(frozen=True)
class ModelConfig:
    num_layers: int
    """Number of transformer blocks."""

    hidden_size: int
    """Width of the residual stream; a multiple of `num_attention_heads`, unless `kv_channels` is set."""

    num_attention_heads: int
    """Number of attention heads; a multiple of `model_parallel_size`."""

    max_position_embeddings: int
    """Longest context, in tokens; learned positions have this many rows."""

    seq_length: int | None = None
    """Tokens in a training sample; default `max_position_embeddings`."""

    num_kv_heads: int | None = None
    """Number of key and value heads, each of which several query heads share (grouped-query attention; 1: multi-query). It must
    divide `num_attention_heads`, which is the default, and be a multiple of `model_parallel_size`."""

    kv_channels: int | None = None
    """Width of an attention head; default `hidden_size` / `num_attention_heads`."""

    qk_norm: bool = False
    """True: rmsnorm of the queries and keys of each head, before rotary positions, as in Qwen3. The heads share its weight."""

    intermediate_size: int | None = None
    """Width of the feed-forward layer; default 4 * `hidden_size`. With a gated `activation` the width is a third of this value, as
    in GPT-NeoX: for a model of LLaMA's, set three times its intermediate_size."""

    expansion_factor: float | None = None
    """Width of the feed-forward layer in multiples of `hidden_size`, in place of `intermediate_size`."""

    mlp_multiple_of: int = 1
    """The width of the feed-forward layer is rounded up to a multiple of this number."""

    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Normalization before attention, before the feed-forward layer and before the head; rmsnorm has no bias."""

    layernorm_epsilon: float = 1e-5
    """Number that layernorm adds to the variance."""

    rms_norm_epsilon: float = 1e-8
    """Number that rmsnorm adds to the mean of squares. LLaMA's models have 1e-5 or 1e-6."""

    pos_emb: Literal["rotary", "learned", "sinusoidal", "alibi", "none"] = "learned"
    """Kind of positions: rotary rotates queries and keys, learned and sinusoidal add a vector to the embedding, alibi lowers
    attention's scores with the distance."""

    rotary_pct: float = 1.0
    """Share of each head's dimensions that is rotated."""

    rotary_emb_base: float = 10000
    """Base of the rotary frequencies."""

    rotary_save_freqs_buffer: bool = False
    """True: checkpoints contain the rotary frequencies. GPT-NeoX needs the frequencies if its version has this key or is older than
    March 2024."""

    attention_config: tuple[Literal["global", "flash"], ...] = ()
    """Kind of attention of each layer. The kinds differ only with `apply_query_key_layer_scaling`."""

    apply_query_key_layer_scaling: bool = False
    """True: attention scores are divided by the layer's index, and multiplied by the index again in fp32. With `pos_emb: alibi`
    the distance penalties are added between the two steps, so they grow with the index. As in GPT-NeoX, layers of flash attention
    and models without alibi give the same results with True and False."""

    no_weight_tying: bool = False
    """True: the output head has its own weights. False: it uses the weights of the embedding."""

    gpt_j_residual: bool = False
    """True: attention and the feed-forward layer read the same input, and their sum is added to it (GPT-J). False: attention is
    added first, and the feed-forward layer reads the result."""

    activation: Literal["gelu", "relu", "softsign", "swish", "silu", "mish", "geglu", "reglu", "swiglu", "glu", "bilinear"] = "gelu"
    """Activation of the feed-forward layer. The last five are gated: half of the layer is multiplied by a function of the other."""

    token_smear: bool = False
    """True: the vector of each token is x[t] = e[t] + s * e[t-1], with the embeddings e and one learned vector s, which is 0 at the
    start. Nothing is added to the first token of a text and, with `reset_attention_mask`, of a document. Without that key an
    end-of-document token, with which a document begins, receives the last token of the document before; no other token does."""

    embedding_skip: bool = False
    """True: the input x of each block is replaced by a[0] x + a[1] x0, with two learned numbers a of each block, 1 and 0 at the
    start, and the input x0 of the first block."""

    value_residual: bool = False
    """True: the values v of each block but the first are replaced by a[0] v + a[1] v1, with two learned numbers a of each block,
    0.5 at the start, and the values v1 of the first block."""

    bias_gelu_fusion: bool = False
    """True: gelu is its tanh approximation, as in GPT-NeoX's fused kernel. False: exact GELU. geglu is always exact."""

    use_bias_in_attn_linear: bool = True
    """True: the projections of attention have biases."""

    use_bias_in_mlp: bool = True
    """True: the projections of the feed-forward layer have biases."""

    hidden_dropout: float = 0.0
    """Dropout after attention, feed-forward and embedding, while training. Masks depend on `seed` and the sample, and not on the
    layout."""

    attention_dropout: float = 0.0
    """Dropout of attention probabilities, while training. Attention is then computed in plain operations, without a fused kernel,
    and recomputed in the backward pass."""

    z_loss_coefficient: float = 0.0
    """While training, this number times the mean of log(Z)^2 is added to the loss that is differentiated. Z is the softmax's
    denominator of a token (1e-4 in PaLM). Reported losses are the cross entropy alone, so that runs can be compared."""

    init_method: InitMethod = "normal"
    """Initialization of input projections and embeddings."""

    output_layer_init_method: InitMethod = "scaled_normal"
    """Initialization of the projections that write to the residual stream."""

    init_method_std: float = 0.02
    """Standard deviation of `normal`; `scaled_normal` divides it by sqrt(2 * `num_layers`), `single_residual_scaled_normal` by
    sqrt(`num_layers`)."""

    reset_position_ids: bool = False
    """True: while training, positions restart at each end-of-document token, which begins a document. With `pos_emb: alibi`, use
    `reset_attention_mask`: alibi has no positions."""

    reset_attention_mask: bool = False
    """True: while training, a token attends only to tokens of its own document. Each end-of-document token begins a document."""

    torch_compile: bool = False
    """True: while training, each transformer block is compiled by torch.compile at the first step. This takes about a minute; it
    makes steps faster on a GPU and not on a CPU."""

    make_vocab_size_divisible_by: int = 128
    """The vocabulary is padded to a multiple of this number times `model_parallel_size`."""

    mask_padded_vocab: bool = True
    """True: padded vocabulary entries never enter the softmax, so the loss does not depend on the layout. False: padded entries
    enter the softmax, as in GPT-NeoX. Default: true, but false for a model with weights of GPT-NeoX or Hugging Face."""

    precision: Literal["fp32", "fp16", "bfloat16"] = "fp32"
    """Type of weights and activations while training; fp16 needs a GPU. The optimizer keeps fp32 weights in any case."""

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.kv_channels or self.hidden_size // self.num_attention_heads

    @property
    def attention_width(self) -> int:
        """Width of all heads together: rows of the queries, and inputs of the projection after attention."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_heads(self) -> int:
        """Number of heads of keys and values."""
        return self.num_kv_heads or self.num_attention_heads

    @property
    def feed_forward_size(self) -> int:
        """Width of the feed-forward layer after the activation."""
        return compute_feed_forward_size(
            self.hidden_size, self.intermediate_size, self.expansion_factor, self.activation, self.mlp_multiple_of
        )

    @property
    def is_gated(self) -> bool:
        return self.activation in GATED

    @property
    def sample_length(self) -> int:
        """Tokens in a training sample: `seq_length`, or the longest context."""
        return self.seq_length or self.max_position_embeddings
