"""Checkpoints of GPT-NeoX in every naming, form and size, against transformers' GPT-NeoX with the same weights, and training from
weights of others against torch's training of transformers' model.
"""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_runs import losses_of
from foreign_checkpoint import FORMS, NAMINGS, build_peer, write_foreign_checkpoint
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from neox_code.checkpoint.record import read_stored_config
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.convert import convert
from neox_code.conversion.options import ConversionOptions
from neox_code.data.loaders import build_loaders
from neox_code.generation.loading import load_model
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.registry import build_tokenizer

KEYS = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pos_emb": "rotary",
    "no_weight_tying": True,
}
RESIDUALS = {"sequential": {}, "parallel": {"gpt_j_residual": True, "rotary_pct": 0.25}}
VOCABULARY_ROWS = 640
TOKENS = torch.arange(5, 45)[None]

COMBINATIONS = list(product(RESIDUALS, (1, 2, 4), NAMINGS, FORMS))


@pytest.mark.parametrize(
    ("residual", "tensor_size", "naming", "form", "is_tied", "precision"),
    [
        *((*combination, False, "fp32") for combination in COMBINATIONS),
        *((*combination, False, "bfloat16") for combination in COMBINATIONS if combination[2] == "v1"),
        *((residual, 2, "legacy", form, True, "fp32") for residual, form in product(RESIDUALS, FORMS)),
    ],
)
def test_logits_equal_those_of_transformers(job_folder, tmp_path, residual, tensor_size, naming, form, is_tied, precision):
    keys = {**KEYS, **RESIDUALS[residual], "no_weight_tying": not is_tied, "precision": precision}
    rows = -(-VOCABULARY_ROWS // (128 * tensor_size)) * 128 * tensor_size  # GPT-NeoX's padding
    peer = build_peer(keys, rows, torch.float32 if precision == "fp32" else torch.bfloat16)
    files = {"vocab_file": job_folder / "code-vocab.json", "merge_file": job_folder / "code-merges.txt", "load": tmp_path}
    keys |= {key: str(path) for key, path in files.items()}
    write_foreign_checkpoint(tmp_path, peer, keys, naming, form, tensor_size)
    assert_same_logits(peer, tmp_path / "configs" / "model.yml", 1e-5 if precision == "fp32" else 3e-2)


def assert_same_logits(peer: torch.nn.Module, config_file: Path, tolerance: float) -> None:
    """Compare the logits of the configured model with those of transformers; the tolerance is a part of the largest logit."""
    loaded = load_model(NeoXConfig.load([config_file]), torch.device("cpu"))
    size = loaded.tokenizer.vocab_size
    with torch.no_grad():
        expected, found = (model[..., :size].float() for model in (peer(TOKENS).logits, loaded.gpt(TOKENS)))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


STEPS: dict[str, Any] = {
    "train_iters": 3,
    "train_batch_size": 4,
    "eval_iters": 0,
    "lr_decay_style": "constant",
    "warmup": 0.0,
    "weight_decay": 0.0,
}


def losses_of_peer(peer: torch.nn.Module, file: Path) -> list[float]:
    """Return the losses of three steps by transformers and torch's Adam in fp32, on the batches of a configuration."""
    config = NeoXConfig.load([file])
    sizes, found = config.batch_sizes(1), []
    loader = build_loaders(config, sizes, build_tokenizer(config.data), single_process_grid()).train
    loader.require(3 * sizes.accumulation_steps)
    batches, peer = iter(loader), peer.float()
    optimizer = torch.optim.Adam(peer.parameters(), lr=0.003, betas=(0.9, 0.95))
    for _ in range(3):
        optimizer.zero_grad()
        losses = []
        for _ in range(sizes.accumulation_steps):
            tokens, (labels, _) = next(batches)
            losses.append(torch.nn.functional.cross_entropy(peer(tokens).logits.flatten(0, 1), labels.flatten()))
            (losses[-1] / sizes.accumulation_steps).backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        found.append(sum(losses).item() / len(losses))
    return found


def test_a_model_of_gpt_neox_trains_as_in_torch(job, tmp_path):
    """Tensor ranks are merged, row biases summed, more rows than this layout's padding kept; bf16 rounds the logits to 2**-9."""
    keys = {**KEYS, **RESIDUALS["parallel"], "precision": "bfloat16"}
    peer = build_peer(keys, 768, torch.bfloat16)
    write_foreign_checkpoint(tmp_path / "load", peer, keys, "v1", "sequential", 2)
    file = job(**keys, **STEPS, pipe_parallel_size=2)
    found = losses_of(2, file, tmp_path / "save", load=str(tmp_path / "load"), finetune=True)
    assert found == pytest.approx(losses_of_peer(peer, file), rel=1e-3)


def test_a_llama_trains_as_in_torch_and_keeps_its_rows(job, tmp_path):
    """Two tensor ranks pad 642 rows to 768: rows that the model does not have never enter the softmax, after a resume neither."""
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    heads = {"num_key_value_heads": 2, "rope_theta": 5000.0, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}
    torch.manual_seed(0)
    peer = LlamaForCausalLM(LlamaConfig(**shape, **heads, vocab_size=642, initializer_range=0.2))
    peer.save_pretrained(tmp_path / "load")
    stored = read_stored_config(tmp_path / "load", None)
    assert stored is not None
    keys = {key: stored.values[key] for key in stored.origins if stored.origins[key] != "default"}
    file = job(**keys, **STEPS, model_parallel_size=2)
    options = {"load": str(tmp_path / "load"), "finetune": True}
    found = losses_of(2, file, tmp_path / "save", **options, exit_interval=2)
    assert len(found) == 2
    found = losses_of(2, file, tmp_path / "save", **options)
    assert found == pytest.approx(losses_of_peer(peer, file), rel=2e-5)
    convert(tmp_path / "save", tmp_path / "again", "huggingface", ConversionOptions())
    with safe_open(tmp_path / "again" / "model.safetensors", framework="pt") as tensors:
        assert tensors.get_slice("lm_head.weight").get_shape() == [642, 64]
