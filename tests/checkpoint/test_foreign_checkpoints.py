"""Checkpoints of GPT-NeoX in every naming, form and size, against transformers' GPT-NeoX with the same weights."""

from itertools import product
from pathlib import Path

import pytest
import torch
from foreign_checkpoint import FORMS, NAMINGS, build_peer, write_foreign_checkpoint

from neox_code.config.neox import NeoXConfig
from neox_code.generation.loading import load_model

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
