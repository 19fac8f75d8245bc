"""Parameters and FLOPs from the configuration alone: arithmetic, no model."""

from neox_code.config.model import ModelConfig


def block_parameters(model: ModelConfig) -> int:
    """Parameters of one transformer block: projections with biases, and two norms."""
    hidden, inner = model.hidden_size, model.feed_forward_size
    attention = 3 * hidden * hidden + 3 * hidden + hidden * hidden + hidden
    feed_forward = 2 * hidden * inner + inner + hidden
    return attention + feed_forward + 4 * hidden


def parameters(model: ModelConfig, padded_vocab_size: int) -> int:
    """All parameters, padding included."""
    hidden = model.hidden_size
    heads = 2 if model.no_weight_tying else 1
    positions = model.max_position_embeddings * hidden if model.pos_emb == "learned" else 0
    return model.num_layers * block_parameters(model) + heads * padded_vocab_size * hidden + positions + 2 * hidden


def training_flops_per_token(model: ModelConfig, padded_vocab_size: int, sequence_length: int) -> float:
    """Forward and backward FLOPs a token: 6 per weight that multiplies it, and 12 L h S / 2 for causal attention.

    Chowdhery et al. 2022 (PaLM), appendix B, halved for the causal mask; recomputation does not count.
    """
    matrices = model.num_layers * (4 * model.hidden_size**2 + 2 * model.hidden_size * model.feed_forward_size)
    head = padded_vocab_size * model.hidden_size
    return 6.0 * (matrices + head) + 6.0 * model.num_layers * model.hidden_size * sequence_length
