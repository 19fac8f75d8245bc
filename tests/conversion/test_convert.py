"""What a conversion refuses; test_huggingface.py has its results in all formats and layouts."""

import pytest
from foreign_checkpoint import SMALL_MODEL, build_peer, write_foreign_checkpoint

from neox_code.commands.convert import main
from neox_code.errors import CheckpointError, ConfigError


def test_an_existing_output_is_not_replaced_and_a_failure_leaves_nothing(tmp_path):
    write_foreign_checkpoint(tmp_path / "save", build_peer(SMALL_MODEL, 640), SMALL_MODEL, "new", "layers")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(CheckpointError, match="there exists and is not replaced"):
        main([str(tmp_path / "save"), str(tmp_path / "there"), "--to", "neox"])
    with pytest.raises(ConfigError, match=r"num_attention_heads .* must be a multiple of model_parallel_size \(3"):
        main([str(tmp_path / "save"), str(tmp_path / "other"), "--to", "neox", "--model-parallel-size", "3"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["save", "there"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "gguf", "--shard-size", "1"], "--shard-size has no effect on --to gguf, only on huggingface"),
        (
            ["--to", "huggingface", "--model-parallel-size", "2"],
            "--model-parallel-size has no effect on --to huggingface, only on neox",
        ),
        (
            ["--to", "gguf", "--pipe-parallel-size", "0"],
            "--pipe-parallel-size has no effect on --to gguf, only on neox and universal",
        ),
        (["--to", "neox", "--push", "me/model"], "--push has no effect on --to neox, only on huggingface"),
    ],
)
def test_an_option_without_effect_on_the_format_is_refused(tmp_path, words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        main([str(tmp_path / "model"), str(tmp_path / "output"), *words])
