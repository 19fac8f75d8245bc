"""A model's folder is data from elsewhere: what it names outside of itself is not read, and what is no file is not waited for."""

import os
import shutil

import pytest
import torch
from foreign_checkpoint import STEP, build_peer, write_foreign_checkpoint

from neox_code.checkpoint.layout import find_checkpoint, get_layer_path, model_file
from neox_code.checkpoint.load import load_client_state, require_loadable
from neox_code.checkpoint.model_folder import MODEL_FILE, merge_config
from neox_code.checkpoint.resume import Start
from neox_code.checkpoint.weights import read_weights
from neox_code.config.command_line import CommandLine
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError

KEYS = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
KEYS |= {"pos_emb": "rotary", "no_weight_tying": True}


@pytest.fixture
def folder(tmp_path, job_folder):
    """A checkpoint of GPT-NeoX whose configuration names the vocabulary in the folder."""
    keys = {**KEYS, "vocab_file": "code-vocab.json", "merge_file": "code-merges.txt"}
    write_foreign_checkpoint(tmp_path / "model", build_peer(KEYS, 640), keys, "v1", "layers")
    for name in ("code-vocab.json", "code-merges.txt"):
        shutil.copy(job_folder / name, tmp_path / "model" / name)
        shutil.copy(job_folder / name, tmp_path / name)
    return tmp_path / "model"


def test_a_vocabulary_outside_of_the_folder_is_read_only_if_the_user_names_it(folder, tmp_path):
    assert merge_config(CommandLine((folder,), {})).data.vocab_file == str(folder / "code-vocab.json")
    (folder / "code-vocab.json").unlink()
    outside = tmp_path / "code-vocab.json"
    for config in (str(outside), "../../code-vocab.json", "../code-vocab.json"):
        (folder / "configs/model.yml").write_text(
            "\n".join(f"{key}: {value}" for key, value in {**KEYS, "vocab_file": config}.items())
        )
        with pytest.raises(CheckpointError, match=r"refers to a vocabulary outside of it \(.*code-vocab\.json\)\. Such files"):
            merge_config(CommandLine((folder,), {}))
    assert merge_config(CommandLine((folder,), {"vocab_file": str(outside)})).data.vocab_file == str(outside)
    (folder / "code-vocab.json").symlink_to(outside)
    with pytest.raises(CheckpointError, match="outside of it"):
        merge_config(CommandLine((folder,), {}))


@pytest.mark.parametrize("key", ["save", "load", "data_path", "hostfile", "no_such_key"])
def test_a_folder_sets_keys_of_its_model_alone(folder, key):
    text = "\n".join(f"{name}: {value}" for name, value in {**KEYS, key: "elsewhere"}.items())
    (folder / STEP / MODEL_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=rf"model\.yml:7 sets {key}, which no model's folder may set"):
        merge_config(CommandLine((folder,), {}))


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/zero")]
)
def test_what_is_no_file_is_not_opened(folder, make):
    path = get_layer_path(folder / STEP, 3, 0)
    path.unlink()
    make(path)
    with pytest.raises(CheckpointError, match=r"layer_03-model_00-model_states\.pt is a broken link or not a regular file"):
        read_weights(folder / STEP, ModelConfig(**KEYS))
    if make is not os.mkdir:
        (folder / "latest").unlink()
        make(folder / "latest")
        assert find_checkpoint(folder) == folder / STEP


@pytest.mark.parametrize("key", ["iteration", "consumed_samples", "global_steps"])
@pytest.mark.parametrize("value", [[1], "x", -1, float("nan"), None])
def test_a_count_that_is_none_is_named(folder, key, value):
    path = model_file(folder / STEP, 0)
    torch.save({key: value}, path)
    with pytest.raises(CheckpointError, match=rf"mp_rank_00_model_states\.pt has {key} "):
        load_client_state(folder / STEP)


def test_a_run_reads_names_and_sizes_before_it_builds(folder):
    require_loadable(Start(folder / STEP), ModelConfig(**KEYS))
    for keys, sentence in (
        ({"intermediate_size": 10**7}, "bytes, and the configured model needs"),
        ({"num_layers": 3}, "has 2 blocks"),
    ):
        with pytest.raises(CheckpointError, match=sentence):
            require_loadable(Start(folder / STEP), ModelConfig(**KEYS | keys))
