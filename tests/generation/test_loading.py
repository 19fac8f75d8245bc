"""The tokenizer that a checkpoint is read with."""

import json
from pathlib import Path

import pytest
from scripted_checkpoint import write_checkpoint

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import CommandLine
from neox_code.generation.loading import load_model

TWO_SPACES = "ĠĠ"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A checkpoint as GPT-NeoX left PolyCoder's: no merged configuration beside it, and two spaces are the first merge."""
    path = write_checkpoint(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**vocabulary, TWO_SPACES: len(vocabulary)}))
    (tmp_path / "merges.txt").write_text("Ġ Ġ\n")
    return path


def tokens_of_two_spaces(config_file: Path, **keys: str) -> int:
    return len(load_model(load_config(CommandLine((config_file,), keys))).tokenizer.encode("  "))


def test_gpt_neoxs_reader_is_selected_for_its_checkpoint_and_a_merge_file_without_a_version(config_file, tmp_path, capfd):
    assert tokens_of_two_spaces(config_file) == 2
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "merge_file_reader" in line)
    assert line.startswith("settings that come from the checkpoint's folder or follow GPT-NeoX's behavior: ")
    assert line.endswith(": merge_file_reader (gpt-neox, by the checkpoint)")


def test_a_reader_that_is_set_is_used(config_file):
    assert tokens_of_two_spaces(config_file, merge_file_reader="whole") == 1
    assert tokens_of_two_spaces(config_file, merge_file_reader="gpt-neox") == 2


def test_the_whole_merge_file_is_read_if_it_has_a_version_or_the_checkpoint_is_ours(config_file, tmp_path):
    configs = tmp_path / "checkpoints" / "configs"
    configs.mkdir()
    (configs / "merged.yml").write_text("")
    assert tokens_of_two_spaces(config_file) == 1
    (configs / "merged.yml").unlink()
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ Ġ\n")
    assert tokens_of_two_spaces(config_file) == 1
