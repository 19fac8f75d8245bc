"""Numbers of parameters against the built model, whole and by what tensor parallelism divides."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from neox_code.config.model import ModelConfig
from neox_code.config.model_size import compute_training_flops_per_token, count_block_parameters, count_parameters
from neox_code.model.gpt import GPT, build_layers
from neox_code.model.sharding import get_sharding
from neox_code.parallel.grid import single_process_grid

SHAPE = {"num_layers": 3, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
PADDED = 256


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"no_weight_tying": True},
        {"pos_emb": "rotary"},
        {"pos_emb": "none"},
        {"intermediate_size": 96},
        {"norm": "rmsnorm"},
        {"num_kv_heads": 1},
        {"num_kv_heads": 2, "norm": "rmsnorm"},
        {"kv_channels": 24},
        {"kv_channels": 24, "num_kv_heads": 2, "qk_norm": True, "norm": "rmsnorm"},
        {"hidden_size": 66, "kv_channels": 16, "qk_norm": True},
        {"gpt_j_residual": True},
        {"pos_emb": "sinusoidal"},
        {"pos_emb": "alibi"},
        {"use_bias_in_attn_linear": False},
        {"use_bias_in_mlp": False, "use_bias_in_attn_linear": False, "norm": "rmsnorm"},
        {"expansion_factor": 3.0},
        *({"activation": name} for name in ("geglu", "swiglu", "reglu", "bilinear", "glu", "swish")),
        {"activation": "swiglu", "use_bias_in_mlp": False, "intermediate_size": 192, "mlp_multiple_of": 32},
        {"token_smear": True, "embedding_skip": True, "value_residual": True},
    ],
)
def test_the_counts_are_those_of_the_built_model(keys):
    model = ModelConfig(**(SHAPE | keys))
    built = GPT(build_layers(model, 250, PADDED, single_process_grid(), torch.float32))
    assert count_parameters(model, PADDED) == sum(parameter.numel() for parameter in built.parameters())
    block = dict(built.sequential["3"].named_parameters())
    divided = sum(value.numel() for name, value in block.items() if get_sharding(name).dim is not None)
    assert (count_block_parameters(model).divided, count_block_parameters(model).total) == (
        divided,
        sum(value.numel() for value in block.values()),
    )


@pytest.mark.parametrize(
    ("keys", "published"),
    [
        ({"num_layers": 12, "hidden_size": 768, "num_attention_heads": 12}, 162_322_944),
        ({"num_layers": 24, "hidden_size": 1024, "num_attention_heads": 16}, 405_334_016),
        ({"num_layers": 44, "hidden_size": 6144, "num_attention_heads": 64}, 20_554_567_680),
    ],
)
def test_models_have_their_published_counts(keys, published):
    """Biderman et al. 2023 (Pythia), 160M and 410M; Black et al. 2022 (GPT-NeoX-20B), on two tensor-parallel ranks."""
    model = ModelConfig(**keys, max_position_embeddings=2048, pos_emb="rotary", no_weight_tying=True)
    assert count_parameters(model, 50432 if keys["hidden_size"] == 6144 else 50304) == published


@pytest.mark.parametrize("kv_channels", [None, 32])
def test_the_flops_are_those_that_torch_counts(kv_channels):
    model = ModelConfig(**(SHAPE | {"kv_channels": kv_channels, "num_kv_heads": 2, "no_weight_tying": True}))
    gpt = GPT(build_layers(model, 250, PADDED, single_process_grid(), torch.float32))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        gpt(torch.zeros(1, 64, dtype=torch.long)).sum().backward()
    assert counter.get_total_flops() == compute_training_flops_per_token(model, PADDED, 64) * 64
