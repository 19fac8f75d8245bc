"""Build the transformers model that a configuration describes, as an experienced user would build it.

    build_peer_model(config.model, 50304, torch.bfloat16)

The classes are those of config.hugging_face, and Bloom for layernorm with alibi and the tanh approximation of gelu. If no class
supports a configuration, ConfigError names the keys that the most similar class does not support.
"""

from dataclasses import replace

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BloomConfig, BloomForCausalLM
from transformers import PreTrainedModel as Peer

from neox_code.config.assembly import format_value
from neox_code.config.hugging_face import ARCHITECTURES, TANH_GELU, Architecture, find_conflicts, make_config
from neox_code.config.model import ModelConfig
from neox_code.errors import ConfigError

BLOOM = Architecture(
    "BloomForCausalLM",
    keys={},
    fixed={"norm": "layernorm", "pos_emb": "alibi", "bias_gelu_fusion": True, "gpt_j_residual": False, "qk_norm": False}
    | {"use_bias_in_attn_linear": True, "use_bias_in_mlp": True, "apply_query_key_layer_scaling": False}
    | {"num_kv_heads": None, "kv_channels": None},
    defaults={},
    activations={"gelu": "gelu"},
)
BLOOM_WIDTH = {"intermediate_size": None, "expansion_factor": None, "mlp_multiple_of": 1}


def find_nearest_peer(model: ModelConfig) -> tuple[Architecture, list[str]]:
    """Return the class with the fewest unsupported keys, and these keys. A class that supports `pos_emb` is preferred."""
    has_bloom_width = model.feed_forward_size == 4 * model.hidden_size
    bloom = BLOOM if has_bloom_width else replace(BLOOM, fixed={**BLOOM.fixed, **BLOOM_WIDTH})
    lacking = [(architecture, list(find_conflicts(architecture, model))) for architecture in (*ARCHITECTURES.values(), bloom)]
    return min(lacking, key=lambda pair: ("pos_emb" in pair[1], len(pair[1])))


def build_bloom_model(model: ModelConfig, vocab_size: int) -> Peer:
    """Return transformers' Bloom without the norm of its embedding, which GPT-NeoX's models lack. Bloom has no SDPA attention."""
    config = BloomConfig(
        vocab_size=vocab_size,
        hidden_size=model.hidden_size,
        n_layer=model.num_layers,
        n_head=model.num_attention_heads,
        layer_norm_epsilon=model.layernorm_epsilon,
        tie_word_embeddings=not model.no_weight_tying,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    peer = BloomForCausalLM(config)
    peer.transformer.set_submodule("word_embeddings_layernorm", nn.Identity())
    return peer


def build_sdpa_model(model: ModelConfig, vocab_size: int) -> Peer:
    """Return the model of config.hugging_face without dropout, with torch's own functions for attention and gelu."""
    config = make_config(model, vocab_size) | {"attention_dropout": 0.0, "hidden_dropout": 0.0}
    if config["hidden_act"] in TANH_GELU:
        config["hidden_act"] = "gelu_pytorch_tanh"
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="sdpa")


def build_peer_model(model: ModelConfig, padded_vocab_size: int, dtype: torch.dtype) -> Peer:
    """Return a model with random weights of `dtype`; rotary frequencies stay fp32. Raise ConfigError if no class fits."""
    nearest, lacking = find_nearest_peer(model)
    if lacking:
        name = nearest.name.removesuffix("ForCausalLM")
        asked = " and ".join(f"{key} {format_value(getattr(model, key))}" for key in lacking)
        wanted = {"activation": next(iter(nearest.activations)), **nearest.fixed}
        settings = " ".join(f"--set {key}={format_value(wanted[key])}" for key in lacking)
        raise ConfigError(f"transformers has no model with {asked} to compare with; its {name} is the nearest. Use {settings}.")
    peer = (build_bloom_model if nearest is BLOOM else build_sdpa_model)(model, padded_vocab_size)
    frequencies = {name: buffer.clone() for name, buffer in peer.named_buffers() if name.endswith("inv_freq")}
    nn.Module.to(peer, dtype)
    for name, buffer in frequencies.items():
        peer.get_submodule(name.rpartition(".")[0]).register_buffer(name.rpartition(".")[2], buffer, persistent=False)
    return peer
