"""PolyCoder as it is published: its tar untarred into checkpoints/, and the command of Code-LMs' README from there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from foreign_checkpoint import build_peer, write_foreign_checkpoint

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.generation.loading import load_model
from neox_code.tokenizer.gpt2 import GPT2Tokenizer

ROOT = Path(__file__).parents[2]
FILES = ("code-vocab.json", "code-merges.txt")
CONFIGS = ["configs/text_generation.yml", "checkpoints/configs/local_setup.yml", "checkpoints/configs/2-7B.yml"]
PROMPT = "def binarySearch(arr, left, right, x):\n    mid = (left +"
MODEL = """{
  "pipe-parallel-size": 1,
  "model-parallel-size": 1,
  "num-layers": 2,
  "hidden-size": 64,
  "num-attention-heads": 4,
  "seq-length": 64,
  "max-position-embeddings": 64,
  "norm": "layernorm",
  "pos-emb": "rotary",
  "no-weight-tying": true,
  "scaled-upper-triang-masked-softmax-fusion": true,
  "bias-gelu-fusion": false,
  "fp16": {"enabled": true, "loss_scale": 0, "initial_scale_power": 16},
  "checkpoint-num-layers": 1,
  "wall_clock_breakdown": true,
}
"""
LOCAL_SETUP = """{
  "data-path": "data/code/code_text_document",
  "vocab-file": "data/code-vocab.json",
  "merge-file": "data/code-merges.txt",
  "save": "checkpoints",
  "load": "checkpoints",
  "checkpoint_validation_with_forward_pass": False,
  "tensorboard-dir": "tensorboard",
  "log-dir": "logs",
  "use_wandb": False,
  "wandb_project": "neox"
}
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The root of a checkout with the project's configurations and the untarred checkpoint, as the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    keys = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64, "no_weight_tying": True}
    stored, peer = build_peer(keys, 50_304, torch.float16), build_peer(keys, 50_304)
    write_foreign_checkpoint(tmp_path / "checkpoints", stored, keys, "v1", "layers")
    peer.load_state_dict(stored.state_dict())  # values of fp16, computed with in fp32, as `generate` does on a CPU
    (tmp_path / "checkpoints/configs/model.yml").unlink()
    (tmp_path / "checkpoints/configs/2-7B.yml").write_text(MODEL)
    (tmp_path / "checkpoints/configs/local_setup.yml").write_text(LOCAL_SETUP)
    return tmp_path, peer


def generate(*options: str) -> subprocess.CompletedProcess:
    """Run Code-LMs' command with the prompt in its interactive form."""
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, str(ROOT / "deepy.py"), "generate.py", *CONFIGS, *options]
    typed = PROMPT.replace("\n", "\\n") + "\n"
    return subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("place", ["checkpoints", "data", "Data"])
def test_the_command_of_code_lms_finds_the_vocabulary_where_users_have_it(checkout, test_data, place):
    folder, peer = checkout
    (folder / place).mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(test_data / "polycoder-vocab" / name, folder / place / name)
    if place == "checkpoints":
        ended = generate("--set", "maximum_tokens=4")
        assert ended.returncode == 0, ended.stderr
        assert "vocab_file (checkpoints/code-vocab.json, by the checkpoint)" in ended.stderr
        assert "merge_file_reader (gpt-neox, by the checkpoint)" in ended.stderr
    loaded = load_model(load_config(parse_command_line(CONFIGS, None, "generate")), torch.device("cpu"))
    expected = GPT2Tokenizer.from_files(folder / place / FILES[0], folder / place / FILES[1], merge_file_reader="gpt-neox")
    ids = loaded.tokenizer.encode(PROMPT)
    assert ids == expected.encode(PROMPT)
    assert 245 not in ids  # two spaces, the merge that the weights have never seen
    with torch.no_grad():
        logits, found = peer(torch.tensor([ids])).logits, loaded.gpt(torch.tensor([ids]))
    size = loaded.tokenizer.vocab_size
    torch.testing.assert_close(found[..., :size], logits[..., :size], rtol=0, atol=1e-5 * logits.abs().max().item())


def test_a_missing_vocabulary_is_reported_with_the_place_of_the_published_one(checkout):
    ended = generate()
    assert ended.returncode == 2
    assert "missing: data/code-vocab.json (vocab_file, checkpoints/configs/local_setup.yml:3)" in ended.stderr
    assert "the folder Data of github.com/VHellendoorn/Code-LMs" in ended.stderr
    assert "train_tokenizer" not in ended.stderr
