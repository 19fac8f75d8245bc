"""Blocks under torch.compile against the same blocks without it, with a graph that never breaks."""

from pathlib import Path

import pytest
import torch
import torch._dynamo
from model_keys import DOCUMENTS

from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.model.block import TransformerBlock
from neox_code.model.form import ModelForm
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.parallel.seeds import seed_layer

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yml"))
SHAPE = {"num_layers": 3, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64, "seq_length": 64}
VARIANTS = {
    "rotary": {"pos_emb": "rotary", "rotary_pct": 0.25, "gpt_j_residual": True, "bias_gelu_fusion": True},
    "alibi": {"pos_emb": "alibi", "apply_query_key_layer_scaling": True, "attention_config": ("flash",)},
    "qwen3": {
        "pos_emb": "rotary",
        "norm": "rmsnorm",
        "num_kv_heads": 2,
        "kv_channels": 24,
        "qk_norm": True,
        "activation": "swiglu",
    },
    "all residuals": {"pos_emb": "rotary", "embedding_skip": True, "value_residual": True},
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_blocks_of_every_configuration_compile_whole(path):
    torch.compiler.reset()  # the number of compiled versions of a function is limited
    model = NeoXConfig.load([path], {} if "num_layers" in path.read_text() else SHAPE).model
    with seed_layer(1, 2):
        block = TransformerBlock(model, 1, single_process_grid(), torch.float32)
        hidden = torch.randn(1, 12, model.hidden_size, requires_grad=True)
    results = []
    for backend in (None, "aot_eager"):
        block.compile_backend = backend
        output = block(hidden)  # with value_residual, a pair with the values of the first block
        loss = (output[0] if isinstance(output, tuple) else output).square().mean()
        weights = [hidden, *block.parameters()]  # the first block has no use for its share of other residuals
        results.append([loss, *torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)])
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's compiler reads it
@pytest.mark.parametrize("keys", [{}, DOCUMENTS], ids=["rows", "documents"])
@pytest.mark.parametrize(("name", "graphs"), [("rotary", 1), ("alibi", 1), ("qwen3", 1), ("all residuals", 2)])
def test_all_layers_share_one_compiled_graph_or_all_but_the_first(name, graphs, keys):
    model = ModelConfig(**SHAPE | {"no_weight_tying": True} | VARIANTS[name] | keys)
    tokens = torch.randint(0, 9, (2, 40), generator=torch.Generator().manual_seed(3))
    results = []
    for backend in (None, "aot_eager"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        form = ModelForm(eod_id=0 if keys else None, compile_backend=backend)
        gpt = GPT(build_layers(model, 250, 256, single_process_grid(), torch.float32, form=form))
        logits = gpt(tokens)
        results.append([logits, *torch.autograd.grad(logits.square().mean(), list(gpt.parameters()))])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)
