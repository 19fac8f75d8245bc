"""Models small enough for a test, and their equals in transformers."""

from collections.abc import Callable

import pytest
import torch
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

from neox_code.config.model import ModelConfig
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

VOCAB_SIZE, PADDED = 250, 256


@pytest.fixture
def model_config() -> Callable[..., ModelConfig]:
    """Return a function that makes the configuration of a model of three layers from changed keys."""

    def make(**keys: object) -> ModelConfig:
        shape = {"num_layers": 3, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
        return ModelConfig(**(shape | {"pos_emb": "rotary", "no_weight_tying": True} | keys))

    return make


@pytest.fixture
def build_gpt() -> Callable[[ModelConfig], GPT]:
    """Return a function that builds the plain module in evaluation mode, with no weight or bias equal to zero."""

    def build(model: ModelConfig, dtype: torch.dtype = torch.float32) -> GPT:
        gpt = GPT(build_layers(model, VOCAB_SIZE, PADDED, single_process_grid(), dtype)).eval()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in gpt.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        return gpt

    return build


@pytest.fixture
def as_transformers() -> Callable[[GPT, ModelConfig], GPTNeoXForCausalLM]:
    """Return a function that copies the weights into transformers' GPTNeoXForCausalLM."""

    def convert(gpt: GPT, model: ModelConfig) -> GPTNeoXForCausalLM:
        config = GPTNeoXConfig(
            vocab_size=PADDED,
            hidden_size=model.hidden_size,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.num_attention_heads,
            intermediate_size=model.feed_forward_size,
            hidden_act="gelu_new" if model.bias_gelu_fusion else "gelu",
            rotary_pct=model.rotary_pct,
            max_position_embeddings=model.max_position_embeddings,
            use_parallel_residual=model.gpt_j_residual,
            tie_word_embeddings=not model.no_weight_tying,
            attention_dropout=0.0,
            hidden_dropout=0.0,
        )
        peer = GPTNeoXForCausalLM(config).eval()
        head = "lm_head" if hasattr(peer, "lm_head") else "embed_out"
        final = model.num_layers + 3

        def peer_name(name: str) -> str:
            _, index, rest = name.split(".", 2)
            ends = {0: f"gpt_neox.embed_in.{rest.split('.')[-1]}", final: f"gpt_neox.final_layer_norm.{rest.split('.')[-1]}"}
            return {**ends, final + 1: f"{head}.weight"}.get(int(index), f"gpt_neox.layers.{int(index) - 2}.{rest}")

        weights = {peer_name(name): value for name, value in gpt.state_dict().items()}
        if not model.no_weight_tying:
            weights[f"{head}.weight"] = gpt.state_dict()["sequential.0.word_embeddings.weight"]
        peer.load_state_dict(weights, strict=True)
        return peer

    return convert


@pytest.fixture
def as_llama() -> Callable[[GPT, ModelConfig], LlamaForCausalLM | Qwen3ForCausalLM]:
    """Return a function that copies a model with rmsnorm, swiglu, rotary positions and an untied head into transformers' Llama,
    or Qwen3 with qk_norm."""

    def convert(gpt: GPT, model: ModelConfig) -> LlamaForCausalLM | Qwen3ForCausalLM:
        config = (Qwen3Config if model.qk_norm else LlamaConfig)(
            vocab_size=PADDED,
            hidden_size=model.hidden_size,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.num_attention_heads,
            num_key_value_heads=model.kv_heads,
            head_dim=model.head_dim,
            intermediate_size=model.feed_forward_size,
            hidden_act="silu",
            rms_norm_eps=model.rms_norm_epsilon,
            max_position_embeddings=model.max_position_embeddings,
            attention_bias=model.use_bias_in_attn_linear,
            mlp_bias=model.use_bias_in_mlp,
            tie_word_embeddings=False,
        )
        peer = (Qwen3ForCausalLM if model.qk_norm else LlamaForCausalLM)(config).eval()
        ends = {0: "model.embed_tokens.weight", model.num_layers + 3: "model.norm.weight", model.num_layers + 4: "lm_head.weight"}
        weights = {}
        for name, value in gpt.state_dict().items():
            _, index, rest = name.split(".", 2)
            if int(index) in ends:
                weights[ends[int(index)]] = value
            else:
                parts = llama_parts(rest, value, model)
                weights.update({f"model.layers.{int(index) - 2}.{part}": tensor for part, tensor in parts.items()})
        peer.load_state_dict(weights, strict=True)
        return peer

    return convert


def llama_parts(name: str, value: torch.Tensor, model: ModelConfig) -> dict[str, torch.Tensor]:
    """Return Llama's parameters for one of our parameters of a block."""
    module, kind = name.rsplit(".", 1)
    if module == "attention.query_key_value":
        shared = model.kv_heads * model.head_dim
        if model.kv_heads == model.num_attention_heads:
            by_head = value.unflatten(0, (model.num_attention_heads, 3, model.head_dim))
            parts = [by_head[:, part].flatten(0, 1) for part in range(3)]
        else:
            parts = list(value.split([model.num_attention_heads * model.head_dim, shared, shared]))
        return {f"self_attn.{letter}_proj.{kind}": part for letter, part in zip("qkv", parts, strict=True)}
    if module == "mlp.dense_h_to_4h":
        up, gate = value.chunk(2)
        return {f"mlp.up_proj.{kind}": up, f"mlp.gate_proj.{kind}": gate}
    if kind == "scale":
        return {f"{module.replace('attention.', 'self_attn.')}.weight": value}
    return {f"{ {'attention.dense': 'self_attn.o_proj', 'mlp.dense_4h_to_h': 'mlp.down_proj'}[module] }.{kind}": value}


@pytest.fixture
def as_bloom() -> Callable[[GPT, ModelConfig], BloomForCausalLM]:
    """Return a function that copies a tied model with alibi and bias_gelu_fusion into BLOOM without embedding norm."""

    def convert(gpt: GPT, model: ModelConfig) -> BloomForCausalLM:
        config = BloomConfig(
            vocab_size=PADDED,
            hidden_size=model.hidden_size,
            n_layer=model.num_layers,
            n_head=model.num_attention_heads,
            layer_norm_epsilon=model.layernorm_epsilon,
            tie_word_embeddings=True,
            attn_implementation="eager",
        )
        peer = BloomForCausalLM(config).eval()
        peer.transformer.word_embeddings_layernorm = torch.nn.Identity()
        weights = {}
        for name, value in gpt.state_dict().items():
            _, index, rest = name.split(".", 2)
            kind = rest.rsplit(".", 1)[1]
            block = f"h.{int(index) - 2}.{rest.replace('attention.', 'self_attention.')}"
            ends = {0: "word_embeddings.weight", model.num_layers + 3: f"ln_f.{kind}"}
            weights[f"transformer.{ends.get(int(index), block)}"] = value
        weights["lm_head.weight"] = weights["transformer.word_embeddings.weight"]
        peer.load_state_dict(weights, strict=True)
        return peer

    return convert
