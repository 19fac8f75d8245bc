"""The folder of a model as configuration: copied elsewhere, without further files, for each format."""

import shutil
from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of
from foreign_checkpoint import SMALL_MODEL, build_peer, write_foreign_checkpoint
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from neox_code.checkpoint.layout import VOCABULARY_FOLDER
from neox_code.checkpoint.model_folder import MODEL_FILE, load_config
from neox_code.config.command_line import parse_command_line
from neox_code.errors import CheckpointError
from neox_code.generation.loading import load_model

TOKENS = torch.arange(5, 45)[None]


def logits_of(*words: str) -> torch.Tensor:
    loaded = load_model(load_config(parse_command_line(words, None, "generate")), torch.device("cpu"))
    with torch.no_grad():
        return loaded.gpt(TOKENS)[..., : loaded.tokenizer.vocab_size]


def test_a_copied_checkpoint_folder_is_enough(job, tmp_path, monkeypatch):
    vocabulary = tmp_path / "elsewhere"
    vocabulary.mkdir()
    file = job(num_kv_heads=2, precision="bfloat16", checkpoint_factor=3)
    losses_of(1, file, tmp_path / "save")
    expected = {
        iteration: logits_of(str(file), f"--set=load={tmp_path / 'save'}", f"--iteration={iteration}") for iteration in (3, 6)
    }
    shutil.copytree(tmp_path / "save", tmp_path / "copy")
    shutil.rmtree(tmp_path / "save")
    monkeypatch.chdir(vocabulary)
    for words, iteration in (
        (["../copy"], 6),
        (["../copy", "--iteration=3"], 3),
        (["../copy/global_step3"], 3),
        ([str(tmp_path / "copy"), "--set=temperature=0"], 6),
    ):
        torch.testing.assert_close(logits_of(*words), expected[iteration], atol=0, rtol=0)
    step = tmp_path / "copy" / "global_step6"
    own = step / VOCABULARY_FOLDER / "code-vocab.json"
    assert load_config(parse_command_line([str(step)], None)).data.vocab_file == str(own)
    (step / MODEL_FILE).unlink()  # as earlier versions and GPT-NeoX leave it
    assert load_config(parse_command_line([str(step)], None)).data.vocab_file == str(own)
    shutil.move(own, step.parent / own.name)
    assert load_config(parse_command_line([str(step)], None)).data.vocab_file == str(step.parent / own.name)


def test_a_model_of_hugging_face_needs_no_further_file(job_folder, tmp_path):
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "rotary_pct": 0.5}
    config = GPTNeoXConfig(**shape, vocab_size=640, max_position_embeddings=64, bos_token_id=0, eos_token_id=0)
    peer = AutoModelForCausalLM.from_config(config).eval()
    peer.save_pretrained(tmp_path)
    shutil.copy(job_folder / "code-vocab.json", tmp_path / "vocab.json")
    shutil.copy(job_folder / "code-merges.txt", tmp_path / "merges.txt")
    with torch.no_grad():
        expected = peer(TOKENS).logits
    for words in ([str(tmp_path)], ["configs/text_generation.yml", f"--set=load={tmp_path}"]):
        torch.testing.assert_close(logits_of(*words), expected, atol=2e-6, rtol=1e-5)


def test_a_folder_without_a_model_is_refused_with_the_files_in_it():
    with pytest.raises(CheckpointError, match="use -d configs and their names"):
        load_config(parse_command_line(["configs"], None, "generate"))
    assert Path("configs").is_dir()


def test_of_several_models_in_a_folder_the_files_of_one_are_named(tmp_path):
    """The published files of a model name `load` as it was at its training: the folder on the command line replaces it."""
    write_foreign_checkpoint(tmp_path, build_peer(SMALL_MODEL, 640), SMALL_MODEL, "v1", "layers")
    described = tmp_path / "configs" / "model.yml"
    text = described.read_text()
    described.write_text(f"{text}load: checkpoints\n")
    (tmp_path / "configs" / "small.yml").write_text(text.replace("num_layers: 2", "num_layers: 1"))
    with pytest.raises(CheckpointError, match=r"\(model.yml, small.yml\):.* occurs twice.* name the files of this one"):
        load_config(parse_command_line([str(tmp_path)], None))
    named = load_config(parse_command_line([str(tmp_path), str(described)], None))
    assert (named.model.num_layers, named.training.load) == (2, str(tmp_path))
    chosen = load_config(parse_command_line([str(tmp_path), str(described), "--set=load=/elsewhere"], None))
    assert chosen.training.load == "/elsewhere"
