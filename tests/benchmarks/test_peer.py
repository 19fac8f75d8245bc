"""The peer of a benchmark is the same model: as many parameters, and the settings that count cannot show."""

import pytest
import torch

from neox_code.benchmarks.peer import build_peer_model
from neox_code.config.model import ModelConfig
from neox_code.config.model_size import count_parameters
from neox_code.errors import ConfigError

PADDED = 256
SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128, "pos_emb": "rotary"}
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "mlp_multiple_of": 16, "no_weight_tying": True}
NO_BIASES = {"use_bias_in_attn_linear": False, "use_bias_in_mlp": False}
BLOOM = {"pos_emb": "alibi", "bias_gelu_fusion": True}

CASES = {
    "GPT-NeoX": ({"rotary_pct": 0.25, "no_weight_tying": True}, "gpt_neox", {"hidden_act": "gelu", "use_parallel_residual": False}),
    "tied with fused gelu": ({"bias_gelu_fusion": True}, "gpt_neox", {"hidden_act": "gelu_pytorch_tanh"}),
    "parallel": ({"gpt_j_residual": True, "activation": "mish"}, "gpt_neox", {"hidden_act": "mish", "use_parallel_residual": True}),
    "no biases in attention": ({"use_bias_in_attn_linear": False, "layernorm_epsilon": 1e-3}, "gpt_neox", {"layer_norm_eps": 1e-3}),
    "Llama": ({**LLAMA, **NO_BIASES}, "llama", {"hidden_act": "silu", "rms_norm_eps": 1e-8}),
    "Llama in groups": ({**LLAMA, **NO_BIASES, "num_kv_heads": 2}, "llama", {"num_key_value_heads": 2}),
    "Llama with biases": ({**LLAMA, "activation": "geglu", "num_kv_heads": 1}, "llama", {"hidden_act": "gelu"}),
    "Llama with narrow heads": ({**LLAMA, "kv_channels": 8}, "llama", {"head_dim": 8}),
    "Qwen3": ({**LLAMA, **NO_BIASES, "qk_norm": True, "kv_channels": 32, "num_kv_heads": 2}, "qwen3", {"head_dim": 32}),
    "Bloom": (BLOOM, "bloom", {"layer_norm_epsilon": 1e-5}),
    "Bloom with a head": ({**BLOOM, "no_weight_tying": True}, "bloom", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_peer_has_the_configurations_parameters_and_settings(name):
    keys, kind, settings = CASES[name]
    model = ModelConfig(**SHAPE | keys)
    peer = build_peer_model(model, PADDED, torch.bfloat16)
    assert peer.config.model_type == kind
    assert sum(parameter.numel() for parameter in peer.parameters()) == count_parameters(model, PADDED)
    assert {key: getattr(peer.config, key) for key in settings} == settings
    assert {parameter.dtype for parameter in peer.parameters()} == {torch.bfloat16}
    tokens = torch.arange(32)[None]
    assert peer(input_ids=tokens, labels=tokens).loss.isfinite()


@pytest.mark.parametrize(("keys", "owner"), [({"rotary_pct": 0.5}, "gpt_neox"), (LLAMA, "model")])
def test_rotary_frequencies_are_the_configurations_and_stay_exact(keys, owner):
    peer = build_peer_model(ModelConfig(**SHAPE | {"rotary_emb_base": 500} | keys), PADDED, torch.bfloat16)
    turned = int(16 * keys.get("rotary_pct", 1))
    expected = torch.tensor([500 ** (-2 * pair / turned) for pair in range(turned // 2)])
    torch.testing.assert_close(getattr(peer, owner).rotary_emb.inv_freq, expected)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"pos_emb": "sinusoidal"},
            "transformers has no model with pos_emb sinusoidal to compare with; its GPTNeoX is the nearest.",
        ),
        ({"num_kv_heads": 2}, "with num_kv_heads 2 to compare with; its GPTNeoX is the nearest. Use --set num_kv_heads=null."),
        ({"kv_channels": 32}, "with kv_channels 32 to compare with; its GPTNeoX is the nearest. Use --set kv_channels=null."),
        ({"qk_norm": True}, "with qk_norm true to compare with; its GPTNeoX is the nearest. Use --set qk_norm=false."),
        ({**LLAMA, "qk_norm": True}, "with qk_norm true to compare with; its Llama is the nearest."),
        ({"activation": "softsign"}, "with activation softsign to compare with; its GPTNeoX"),
        ({**LLAMA, "rotary_pct": 0.5}, "with rotary_pct 0.5 to compare with; its Llama is the nearest. Use --set rotary_pct=1.0."),
        ({**BLOOM, "expansion_factor": 3.0}, "with expansion_factor 3.0 to compare with; its Bloom"),
        ({**BLOOM, "apply_query_key_layer_scaling": True}, "with apply_query_key_layer_scaling true to compare with; its Bloom"),
        ({"pos_emb": "none", "use_bias_in_mlp": False}, "with pos_emb none and use_bias_in_mlp false to compare with"),
    ],
)
def test_a_model_that_transformers_lacks_is_refused_with_its_keys(keys, sentence):
    with pytest.raises(ConfigError) as caught:
        build_peer_model(ModelConfig(**SHAPE | keys), PADDED, torch.bfloat16)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
