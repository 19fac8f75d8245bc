"""Models small enough for a test, and their equals in transformers."""

from collections.abc import Callable

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from neox_code.config.model import ModelConfig
from neox_code.model.gpt import GPT, gpt_layers
from neox_code.parallel.grid import alone

VOCAB_SIZE, PADDED = 250, 256


@pytest.fixture
def model_config() -> Callable[..., ModelConfig]:
    """A model of three layers, with whatever is asked otherwise."""

    def make(**keys: object) -> ModelConfig:
        shape = {"num_layers": 3, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
        return ModelConfig(**(shape | {"pos_emb": "rotary", "no_weight_tying": True} | keys))

    return make


@pytest.fixture
def build_gpt() -> Callable[[ModelConfig], GPT]:
    """The plain module in evaluation mode, with weights and biases all different from zero."""

    def build(model: ModelConfig, dtype: torch.dtype = torch.float32) -> GPT:
        gpt = GPT(gpt_layers(model, VOCAB_SIZE, PADDED, alone(), dtype)).eval()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in gpt.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        return gpt

    return build


@pytest.fixture
def as_transformers() -> Callable[[GPT, ModelConfig], GPTNeoXForCausalLM]:
    """The same weights in transformers' implementation."""

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
