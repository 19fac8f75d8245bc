"""Build the transformers model that a configuration describes, as an experienced user would build it.

    build_peer_model(config.model, 50304, torch.bfloat16)

    GPTNeoX    layernorm, rotary positions, a plain activation
    Llama      rmsnorm, rotary positions, a gated activation; heads may have any width and share keys and values
    Qwen3      the same with norms of queries and keys, and without biases in the feed-forward layer
    Bloom      layernorm, alibi, gelu by its tanh approximation

If no class supports a configuration, ConfigError names the keys that the most similar class does not support.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers import PreTrainedModel as Peer

from neox_code.config.assembly import format_value
from neox_code.config.model import ModelConfig
from neox_code.errors import ConfigError

PLAIN = {"gelu": "gelu", "relu": "relu", "swish": "silu", "silu": "silu", "mish": "mish"}
GATES = {"swiglu": "silu", "geglu": "gelu", "reglu": "relu", "glu": "sigmoid", "bilinear": "linear"}
"""Our activation -> transformers' name of its function."""


SDPA: dict[str, Any] = {"attn_implementation": "sdpa"}


def build_gpt_neox(model: ModelConfig, shared: Mapping[str, Any]) -> Peer:
    """Return transformers' GPT-NeoX."""
    config = GPTNeoXConfig(
        **shared,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_attention_heads,
        intermediate_size=model.feed_forward_size,
        hidden_act="gelu_pytorch_tanh" if model.activation == "gelu" and model.bias_gelu_fusion else PLAIN[model.activation],
        rope_parameters={"rope_theta": model.rotary_emb_base, "partial_rotary_factor": model.rotary_pct, "rope_type": "default"},
        max_position_embeddings=model.max_position_embeddings,
        layer_norm_eps=model.layernorm_epsilon,
        attention_bias=model.use_bias_in_attn_linear,
        use_parallel_residual=model.gpt_j_residual,
        hidden_dropout=0.0,
        **SDPA,
    )
    return GPTNeoXForCausalLM(config)


def build_llama(model: ModelConfig, shared: Mapping[str, Any]) -> Peer:
    """Return transformers' Llama."""
    return LlamaForCausalLM(LlamaConfig(**llama_settings(model, shared), mlp_bias=model.use_bias_in_mlp))


def build_qwen3(model: ModelConfig, shared: Mapping[str, Any]) -> Peer:
    """Return transformers' Qwen3."""
    return Qwen3ForCausalLM(Qwen3Config(**llama_settings(model, shared)))


def llama_settings(model: ModelConfig, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of transformers' Llama and Qwen3."""
    return dict(
        **shared,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.kv_heads,
        head_dim=model.head_dim,
        intermediate_size=model.feed_forward_size,
        hidden_act=GATES[model.activation],
        rope_parameters={"rope_theta": model.rotary_emb_base, "rope_type": "default"},
        max_position_embeddings=model.max_position_embeddings,
        rms_norm_eps=model.rms_norm_epsilon,
        attention_bias=model.use_bias_in_attn_linear,
        **SDPA,
    )


def build_bloom(model: ModelConfig, shared: Mapping[str, Any]) -> Peer:
    """Return transformers' Bloom without the norm of its embedding, which GPT-NeoX's models lack. Bloom has no SDPA attention."""
    config = BloomConfig(
        **shared,
        n_layer=model.num_layers,
        n_head=model.num_attention_heads,
        layer_norm_epsilon=model.layernorm_epsilon,
        hidden_dropout=0.0,
    )
    peer = BloomForCausalLM(config)
    peer.transformer.set_submodule("word_embeddings_layernorm", nn.Identity())
    return peer


@dataclass(frozen=True)
class PeerKind:
    """A model class of transformers: the function that builds it, and the values that it supports for some keys."""

    build: Callable[[ModelConfig, Mapping[str, Any]], Peer]
    values: dict[str, Sequence[Any]]
    has_any_heads: bool = False
    """True if heads may have any width and share keys and values."""
    has_any_width: bool = True

    def find_unsupported(self, model: ModelConfig) -> dict[str, Sequence[Any]]:
        """Return the keys whose values this class does not support, each with the supported values."""
        equal = model.hidden_size // model.num_attention_heads
        heads = {"num_kv_heads": (None, model.num_attention_heads), "kv_channels": (None, equal)}
        width = {"intermediate_size": (None, 4 * model.hidden_size), "expansion_factor": (None, 4.0), "mlp_multiple_of": (1,)}
        values = self.values | ({} if self.has_any_heads else heads) | ({} if self.has_any_width else width)
        return {key: wanted for key, wanted in values.items() if getattr(model, key) not in wanted}


LLAMA: dict[str, Sequence[Any]] = {
    "norm": ("rmsnorm",),
    "pos_emb": ("rotary",),
    "activation": tuple(GATES),
    "rotary_pct": (1.0,),
    "gpt_j_residual": (False,),
    "qk_norm": (False,),
}

PEERS = {
    "GPTNeoX": PeerKind(
        build_gpt_neox,
        {
            "norm": ("layernorm",),
            "pos_emb": ("rotary",),
            "activation": tuple(PLAIN),
            "use_bias_in_mlp": (True,),
            "qk_norm": (False,),
        },
    ),
    "Llama": PeerKind(build_llama, LLAMA, has_any_heads=True),
    "Qwen3": PeerKind(build_qwen3, LLAMA | {"qk_norm": (True,), "use_bias_in_mlp": (False,)}, has_any_heads=True),
    "Bloom": PeerKind(
        build_bloom,
        {
            "norm": ("layernorm",),
            "pos_emb": ("alibi",),
            "activation": ("gelu",),
            "bias_gelu_fusion": (True,),
            "use_bias_in_attn_linear": (True,),
            "use_bias_in_mlp": (True,),
            "gpt_j_residual": (False,),
            "apply_query_key_layer_scaling": (False,),
            "qk_norm": (False,),
        },
        has_any_width=False,
    ),
}


def find_nearest_peer(model: ModelConfig) -> tuple[str, dict[str, Sequence[Any]]]:
    """Return the class with the fewest unsupported keys, positions first, and these keys."""
    lacking = {name: kind.find_unsupported(model) for name, kind in PEERS.items()}
    nearest = min(lacking, key=lambda name: ("pos_emb" in lacking[name], len(lacking[name])))
    return nearest, lacking[nearest]


def build_peer_model(model: ModelConfig, padded_vocab_size: int, dtype: torch.dtype) -> Peer:
    """Return a model with random weights of `dtype`; rotary frequencies stay fp32. Raise ConfigError if no class fits."""
    nearest, lacking = find_nearest_peer(model)
    if lacking:
        asked = " and ".join(f"{key} {format_value(getattr(model, key))}" for key in lacking)
        settings = " ".join(f"--set {key}={format_value(wanted[0])}" for key, wanted in lacking.items())
        raise ConfigError(f"transformers has no model with {asked} to compare with; its {nearest} is the nearest. Use {settings}.")
    shared = {
        "vocab_size": padded_vocab_size,
        "hidden_size": model.hidden_size,
        "tie_word_embeddings": not model.no_weight_tying,
        "attention_dropout": 0.0,
    }
    peer = PEERS[nearest].build(model, shared)
    frequencies = {name: buffer.clone() for name, buffer in peer.named_buffers() if name.endswith("inv_freq")}
    nn.Module.to(peer, dtype)
    for name, buffer in frequencies.items():
        peer.get_submodule(name.rpartition(".")[0]).register_buffer(name.rpartition(".")[2], buffer, persistent=False)
    return peer
