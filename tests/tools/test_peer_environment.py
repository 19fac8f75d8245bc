"""Converters of GPT-NeoX and Code-LMs, unmodified and with packages of their time, on our checkpoints.

They run where NEOX_CODE_TEST_PEERS names a folder that tools/peer_environment.py made. What they write is loaded by the present
transformers, whose logits must equal ours. Left out are cases in which a converter is wrong: it sums the copies of row biases in a
sequential residual at tensor parallelism, and takes Llama's keys and values as grouped where every head has its own.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from checkpoint.test_foreign_checkpoints import assert_same_logits
from distributed_runs import losses_of
from transformers import AutoModelForCausalLM

from neox_code.checkpoint.layout import make_step_name
from neox_code.config.neox import NeoXConfig
from neox_code.errors import run_command
from tools import peer_environment

HEAD = ("2024", "gpt-neox/tools/ckpts/convert_neox_to_hf.py")
JANUARY_2024 = ("2022", "gpt-neox-2024/tools/ckpts/convert_sequential_to_hf.py")
CODE_LMS = ("2022", "code-lms/Convert2HF/convert_neox_pt_to_huggingface_neox.py")
COMPUTED = ("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq")
"""Buffers of the transformers of 2022 that it computes and the files of GPT-NeoX lack: the causal mask, the rotary frequencies."""
LLAMA = {
    "activation": "swiglu",
    "norm": "rmsnorm",
    "hidden_size": 96,
    "num_attention_heads": 6,
    "num_kv_heads": 2,
    "mlp_multiple_of": 256,
    "use_bias_in_attn_linear": False,
    "use_bias_in_mlp": False,
}
PARALLEL = {"gpt_j_residual": True, "rotary_pct": 0.25}


needs_peers = pytest.mark.skipif(
    "NEOX_CODE_TEST_PEERS" not in os.environ, reason="NEOX_CODE_TEST_PEERS names no folder that tools/peer_environment.py made"
)


def run_converter(converter: tuple[str, str], *options: str | Path) -> None:
    folder = os.environ["NEOX_CODE_TEST_PEERS"]
    environment, script = (Path(folder, converter[0], "bin", "python"), Path(folder, converter[1]))
    if not environment.exists() or not script.exists():
        pytest.skip(f"{folder} lacks {'/'.join(converter)}")
    variables = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [environment, script, *options]
    ended = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:]
    missing = re.search(r"missing keys: \[(.*)\]", ended.stdout)
    assert not missing or all(name.strip("' ").endswith(COMPUTED) for name in missing[1].split(","))


@pytest.fixture
def trained(job, tmp_path):
    """Return a function that trains one step and spreads the weights, and returns configuration file, folder and model keys."""

    def train(**keys):
        size = keys.get("model_parallel_size", 1) * max(1, keys.get("pipe_parallel_size", 1))
        file = job(**keys, train_iters=2, eval_iters=0, optimizer={"type": "Adam", "params": {"lr": 0.1}})
        losses_of(size, file, tmp_path / "save")
        folder = tmp_path / "save" / make_step_name(2)
        config = tmp_path / "load.yml"
        config.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "load": str(tmp_path / "save")}))
        return config, folder

    return train


def assert_converted(config: Path, output: Path) -> None:
    peer = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32).eval()
    assert_same_logits(peer, config, 1e-5)


@needs_peers
@pytest.mark.parametrize(
    ("keys", "converter", "options"),
    [
        ({}, HEAD, ()),
        ({**PARALLEL, "no_weight_tying": False}, HEAD, ()),
        ({**PARALLEL, "model_parallel_size": 2}, HEAD, ()),
        ({**PARALLEL, "model_parallel_size": 2, "pipe_parallel_size": 0}, HEAD, ()),
        ({"pipe_parallel_size": 2}, HEAD, ()),
        (LLAMA, HEAD, ("--architecture", "llama")),
        ({**LLAMA, "model_parallel_size": 2}, HEAD, ("--architecture", "llama")),
        ({"pipe_parallel_size": 0, "rotary_save_freqs_buffer": True}, JANUARY_2024, ()),
    ],
)
def test_a_converter_of_gpt_neox_gives_transformers_our_logits(trained, tmp_path, keys, converter, options):
    config, folder = trained(**keys)
    merged = folder / "configs" / "merged.yml"
    run_converter(converter, "--input_dir", folder, "--config_file", merged, "--output_dir", tmp_path / "hf", *options)
    assert_converted(config, tmp_path / "hf")


@needs_peers
@pytest.mark.parametrize("rotary_save_freqs_buffer", [True, False])
def test_the_converter_of_code_lms_gives_transformers_our_logits(trained, job_folder, tmp_path, rotary_save_freqs_buffer):
    config, folder = trained(rotary_save_freqs_buffer=rotary_save_freqs_buffer)
    model = NeoXConfig.load([config]).model
    description = {
        "model_type": "gpt_neox",
        "hidden_act": "gelu",
        "vocab_size": 640,
        "hidden_size": model.hidden_size,
        "intermediate_size": 4 * model.hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "num_hidden_layers": model.num_layers,
        "max_position_embeddings": model.max_position_embeddings,
        "rotary_pct": 1.0,
        "use_parallel_residual": False,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(description))
    vocabulary = ("--vocab_file", job_folder / "code-vocab.json", "--merge_file", job_folder / "code-merges.txt")
    places = ("--hf_config_path", tmp_path / "config.json", "--hf_save_dir", tmp_path / "hf")
    run_converter(CODE_LMS, "--checkpoint_dir", folder, *vocabulary, *places)
    assert_converted(config, tmp_path / "hf")


def test_a_repository_without_the_commit_is_named(tmp_path, capsys):
    assert run_command(peer_environment.main, [str(tmp_path / "peers"), "--gpt-neox", str(tmp_path)]) == 2
    assert f"error: {tmp_path} has no commit HEAD" in capsys.readouterr().err
