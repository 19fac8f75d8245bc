"""transformers' GPTNeoX in a configuration's shape, as a careful user of it would build it."""

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from neox_code.config.model import ModelConfig


def peer_model(model: ModelConfig, padded_vocab_size: int, dtype: torch.dtype) -> GPTNeoXForCausalLM:
    """Random weights of `dtype`, SDPA attention; the rotary frequencies stay in fp32, which `.to(dtype)` would round."""
    config = GPTNeoXConfig(
        vocab_size=padded_vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_attention_heads,
        intermediate_size=model.feed_forward_size,
        hidden_act="gelu_pytorch_tanh" if model.bias_gelu_fusion else "gelu",
        rotary_pct=model.rotary_pct,
        max_position_embeddings=model.max_position_embeddings,
        use_parallel_residual=model.gpt_j_residual,
        tie_word_embeddings=not model.no_weight_tying,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        attn_implementation="sdpa",
    )
    peer = GPTNeoXForCausalLM(config)
    rotary = peer.gpt_neox.rotary_emb
    frequencies = rotary.inv_freq.clone()
    peer = peer.to(dtype)
    rotary.inv_freq = frequencies
    return peer
