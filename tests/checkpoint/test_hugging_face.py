"""Models that transformers wrote, read as ours: equal logits, and one sentence for each kind of damage."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, PreTrainedModel, Qwen3Config

from neox_code.checkpoint.record import read_stored_config
from neox_code.checkpoint.weights import load_weights, read_weights
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.fields import FIELDS
from neox_code.config.hugging_face import make_config
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

VOCAB = 300
TOKENS = torch.arange(5, 45)[None]
SIZES = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
SIZES |= {"max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": 0}
MODELS = {
    "pythia": GPTNeoXConfig(**SIZES, rotary_pct=0.25, tie_word_embeddings=True),
    "polycoder": GPTNeoXConfig(**SIZES, rotary_pct=1.0, use_parallel_residual=False, hidden_act="gelu_new"),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=5000.0),
    "llama with a key for each head": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=32),
    "qwen3 with a key for each head": Qwen3Config(**SIZES, num_key_value_heads=4, head_dim=16, attention_bias=True),
}  # fmt: skip


def build_peer(config, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return transformers' model with random biases and norms too, which it would leave at 0 and 1."""
    torch.manual_seed(0)
    peer = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return peer.to(dtype)


def read_model(folder: Path) -> ModelConfig:
    stored = read_stored_config(folder, None)
    return ModelConfig(**{name: stored.values[name] for name, field in FIELDS.items() if field.section == "model"})


def load(folder: Path, dtype: torch.dtype = torch.float32) -> GPT:
    model = read_model(folder)
    padded = compute_padded_vocab_size(VOCAB, model.make_vocab_size_divisible_by, 1)
    gpt = GPT(build_layers(model, VOCAB, padded, single_process_grid(), dtype, initialize=False)).eval()
    load_weights(gpt, folder, model, VOCAB)
    return gpt


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layout", ["safetensors", "shards", "bin"])
def test_a_model_of_transformers_has_equal_logits_here(tmp_path, name, layout):
    peer = build_peer(MODELS[name])
    peer.save_pretrained(tmp_path, max_shard_size="50KB" if layout == "shards" else "1GB")
    if layout == "bin":  # as transformers 4 wrote it
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or layout != "shards"
    with torch.no_grad():
        expected, found = peer(TOKENS).logits, load(tmp_path)(TOKENS)[..., :VOCAB]
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_the_configuration_is_written_as_it_was_read(tmp_path, name):
    MODELS[name].save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "model.safetensors").touch()
    again = type(MODELS[name])(**make_config(read_model(tmp_path), VOCAB)).to_dict()
    keys = {"rope_parameters", *SIZES, *make_config(read_model(tmp_path), VOCAB)} - {
        "eos_token_id",
        "bos_token_id",
        "architectures",
    }
    for key in keys - {"rotary_pct", "rotary_emb_base", "rope_theta"}:
        assert again[key] == written.get(key, again[key]), key
    assert again["model_type"] == written["model_type"]


def test_damaged_and_hostile_folders_are_refused_in_one_sentence(tmp_path):
    peer = build_peer(MODELS["llama"])
    peer.save_pretrained(tmp_path, max_shard_size="50KB")
    model, index = read_model(tmp_path), tmp_path / "model.safetensors.index.json"
    good = index.read_text()
    listed = json.loads(good)
    shard = tmp_path / listed["weight_map"]["model.norm.weight"]

    def refused(match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            dict(read_weights(tmp_path, model))

    for path in ("../secret.safetensors", "/etc/passwd"):
        index.write_text(json.dumps({"weight_map": {**listed["weight_map"], "model.norm.weight": path}}))
        refused("a file outside")
    index.write_text('{"weight_map": [1]}')
    refused("not an index of shards")
    index.write_text(json.dumps({"weight_map": {**listed["weight_map"], "lm_head.extra": shard.name}}))
    refused("lacks lm_head.extra")
    index.write_text(good)
    content = shard.read_bytes()
    for damaged in (b"", content[:100], (2**60).to_bytes(8, "little") + content[8:]):
        shard.write_bytes(damaged)
        refused(shard.name)
    shard.unlink()
    refused("is missing")
    (tmp_path.parent / "elsewhere.safetensors").write_bytes(content)
    shard.symlink_to(tmp_path.parent / "elsewhere.safetensors")
    refused("a file outside")
    shard.unlink()
    shard.write_bytes(content)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}))
    with pytest.raises(CheckpointError, match="type 'yarn'"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 80}))
    with pytest.raises(CheckpointError, match="Use the configuration"):
        load(tmp_path)


def test_values_that_are_not_finite_are_named(tmp_path):
    peer = build_peer(MODELS["pythia"])
    with torch.no_grad():
        peer.gpt_neox.layers[1].mlp.dense_h_to_4h.weight[3, 4] = float("nan")
    peer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"sequential\.3\.mlp\.dense_h_to_4h\.weight has values that are not finite"):
        load(tmp_path)
