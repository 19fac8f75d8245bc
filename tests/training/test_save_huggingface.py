"""`save_huggingface`: a folder for transformers in each checkpoint, which never harms the training."""

import shutil

import pytest
import torch
from distributed_runs import losses_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from neox_code.checkpoint.layout import HUGGING_FACE_FOLDER, get_layer_path, make_step_name
from neox_code.checkpoint.weights import load_weights
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.training.checkpoints import write_hugging_face_copy

TOKENS = torch.arange(5, 45)[None]


@pytest.mark.parametrize("layout", [{"pipe_parallel_size": 2}, {"model_parallel_size": 2, "pipe_parallel_size": 0}])
def test_each_checkpoint_has_a_folder_that_is_deleted_with_it_and_written_after_a_kill(job, tmp_path, layout):
    keys = {"precision": "bfloat16", "checkpoint_factor": 1, "keep_last_n_checkpoints": 1, "eval_iters": 0, **layout}
    save = tmp_path / "save"
    file = job(**keys, save_huggingface=True, train_iters=2, lr_decay_iters=9)
    losses_of(2, file, save)
    folder = save / make_step_name(2) / HUGGING_FACE_FOLDER
    assert list(save.glob("global_step*")) == [folder.parent]
    config = NeoXConfig.load([file])
    gpt = GPT(build_layers(config.model, 640, 640, single_process_grid(), torch.float32, initialize=False)).eval()
    load_weights(gpt, folder.parent, config.model, 640)
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        expected, found = gpt(TOKENS), peer(TOKENS).logits
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)
    assert AutoTokenizer.from_pretrained(folder)("def f():\n")["input_ids"] == build_tokenizer(config.data).encode("def f():\n")
    folder.rename(folder.with_name("huggingface.partial"))
    losses_of(2, file, save)
    assert sorted(path.name for path in folder.parent.glob("huggingface*")) == ["huggingface"]
    assert any(folder.glob("*.safetensors"))


def test_a_folder_that_cannot_be_written_is_a_warning(job, tmp_path, caplog):
    losses_of(1, job(train_iters=1, eval_iters=0), tmp_path / "save")
    folder = tmp_path / "save" / make_step_name(1)
    shutil.move(get_layer_path(folder, 3, 0), tmp_path)
    write_hugging_face_copy(folder)
    assert "huggingface was not written: CheckpointError" in caplog.text
    assert not list(folder.glob("huggingface*"))


def test_a_run_that_cannot_write_the_folders_is_refused_at_the_start(job):
    with pytest.raises(ConfigError, match=r"prevented by pos_emb \(alibi, .*job.yml:\d+\).* remove save_huggingface \(true, .*job"):
        NeoXConfig.load([job(save_huggingface=True, pos_emb="alibi")])
    zero = {"zero_optimization": {"stage": 3}, "pipe_parallel_size": 0}
    with pytest.raises(ConfigError, match=r"save_huggingface .* needs whole weights, and .*stage"):
        NeoXConfig.load([job(save_huggingface=True, **zero)])
    NeoXConfig.load([job(save_huggingface=False, pos_emb="alibi")])
