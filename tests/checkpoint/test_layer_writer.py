"""Layer files written without an engine, against those that training writes and through the readers of all sizes."""

from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of, run_ranks

from neox_code.checkpoint.layer_writer import write_layer_files
from neox_code.checkpoint.layout import list_layer_files, make_step_name
from neox_code.checkpoint.weights import load_weights, read_weights
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError
from neox_code.model.gpt import DTYPES, GPT, build_layers
from neox_code.parallel.startup import startup

VOCAB_SIZE = 640
TOKENS = torch.arange(5, 45)[None]
WIDE_HEADS = {"num_kv_heads": 4, "kv_channels": 24, "qk_norm": True, "hidden_size": 62, "mlp_multiple_of": 4}
VARIANTS = [
    ((1, 2, 4), {"num_attention_heads": 8, "num_kv_heads": 4, "activation": "swiglu", "mlp_multiple_of": 4, "norm": "rmsnorm"}),
    ((1, 2), {**WIDE_HEADS, "rotary_save_freqs_buffer": True, "precision": "bfloat16"}),
    ((1, 2), {"gpt_j_residual": True, "pos_emb": "alibi", "make_vocab_size_divisible_by": 60, "precision": "bfloat16"}),
    ((1, 2), {"pos_emb": "sinusoidal", "no_weight_tying": False, "precision": "bfloat16"}),
]
"""Tensor-parallel sizes, and keys of a model with its own kinds of parameters and buffers."""


def contents(folder: Path) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    return {place: torch.load(path, weights_only=True) for place, path in list_layer_files(folder).items()}


def logits_at(file: Path, folder: Path, tensor_size: int) -> torch.Tensor:
    """Load the weights at a tensor-parallel size; return this rank's logits [1, S, V / ranks]."""
    config = NeoXConfig.load([file], {"model_parallel_size": tensor_size})
    model = config.model
    with startup(config.parallelism) as grid, torch.no_grad():
        padded = compute_padded_vocab_size(VOCAB_SIZE, model.make_vocab_size_divisible_by, tensor_size)
        gpt = GPT(build_layers(model, VOCAB_SIZE, padded, grid, DTYPES[model.precision], initialize=False)).eval()
        load_weights(gpt, folder, model, VOCAB_SIZE, grid)
        return gpt(TOKENS).float()


@pytest.mark.parametrize(("sizes", "keys"), VARIANTS, ids=str)
def test_written_files_equal_those_of_training_and_load_at_every_tensor_parallel_size(job, tmp_path, sizes, keys):
    trained, logits = {}, {}
    for size in sizes:
        file = job(**keys, model_parallel_size=size, train_iters=1, eval_iters=0)
        losses_of(size, file, tmp_path / f"trained{size}")
        trained[size] = tmp_path / f"trained{size}" / make_step_name(1)
    model = NeoXConfig.load([file]).model
    for size in sizes:
        same, other = tmp_path / f"same{size}", tmp_path / f"other{size}"
        write_layer_files(same, read_weights(trained[size], model).items(), model, VOCAB_SIZE, size)
        expected, found = contents(trained[size]), contents(same)
        assert found.keys() == expected.keys()
        for place, state in expected.items():
            assert {name: value.dtype for name, value in found[place].items()} == {
                name: value.dtype for name, value in state.items()
            }
            assert all(torch.equal(found[place][name], value) for name, value in state.items())
        write_layer_files(other, read_weights(trained[1], model).items(), model, VOCAB_SIZE, size)
        parts = run_ranks(size, logits_at, file, other, size)
        logits[size] = torch.cat(parts, -1)[..., :VOCAB_SIZE]
    tolerance = 1e-5 if model.precision == "fp32" else 3e-2
    for size in sizes[1:]:
        torch.testing.assert_close(logits[size], logits[1], atol=tolerance, rtol=tolerance)


def test_weights_that_cannot_be_written_are_an_error_with_their_name(tmp_path):
    model = NeoXConfig.load([], {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}).model
    norm = ("sequential.2.input_layernorm.weight", torch.ones(64))
    with pytest.raises(CheckpointError, match=r"dense_h_to_4h.weight has shape \(65, 64\), which cannot be divided over 2"):
        write_layer_files(tmp_path / "a", [("sequential.2.mlp.dense_h_to_4h.weight", torch.ones(65, 64))], model, 640, 2)
    with pytest.raises(CheckpointError, match="norm is not named"):
        write_layer_files(tmp_path / "b", [("norm", torch.ones(64))], model, 640)
    with pytest.raises(CheckpointError, match="layer 02 exists in"):
        write_layer_files(tmp_path / "c", [norm, ("sequential.3.input_layernorm.weight", torch.ones(64)), norm], model, 640)
