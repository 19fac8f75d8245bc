"""Conversion to GPT-NeoX's files of other layouts, against the logits of the source."""

from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of

from neox_code.checkpoint.model_folder import load_config
from neox_code.commands.convert import main
from neox_code.config.command_line import parse_command_line
from neox_code.errors import CheckpointError, ConfigError
from neox_code.generation.loading import load_model

TOKENS = torch.arange(5, 45)[None]
VARIANTS = [
    {"num_kv_heads": 2, "activation": "swiglu", "mlp_multiple_of": 4, "norm": "rmsnorm", "precision": "bfloat16"},
    {"gpt_j_residual": True, "rotary_pct": 0.5, "precision": "bfloat16"},
    {"no_weight_tying": False},
]


def logits_of(folder: Path) -> torch.Tensor:
    loaded = load_model(load_config(parse_command_line([str(folder)], None, "generate")), torch.device("cpu"))
    with torch.no_grad():
        return loaded.gpt(TOKENS)[..., : loaded.tokenizer.vocab_size]


@pytest.mark.parametrize("keys", VARIANTS, ids=str)
def test_other_layouts_have_the_logits_of_the_source_and_convert_back_to_its_bytes(job, tmp_path, keys):
    losses_of(1, job(**keys, train_iters=2, eval_iters=0), tmp_path / "save")
    expected = logits_of(tmp_path / "save")
    for number, sizes in enumerate((("2", "2"), ("1", "0"), ("2", "0"))):
        layout = ["--to", "neox", "--model-parallel-size", sizes[0], "--pipe-parallel-size", sizes[1]]
        assert main([str(tmp_path / "save"), str(tmp_path / f"there{number}"), *layout]) == 0
        torch.testing.assert_close(logits_of(tmp_path / f"there{number}"), expected, atol=0, rtol=0)
        assert main([str(tmp_path / f"there{number}"), str(tmp_path / f"back{number}"), "--to", "neox"]) == 0
        for path in (tmp_path / "save" / "global_step2").glob("layer_*"):
            found = torch.load(tmp_path / f"back{number}" / "global_step2" / path.name, weights_only=True)
            original = torch.load(path, weights_only=True)
            assert found.keys() == original.keys()
            for name, value in original.items():
                rows = 640 if name in ("word_embeddings.weight", "final_linear.weight") else None
                assert torch.equal(found[name][:rows], value[:rows]) and found[name].dtype == value.dtype


def test_an_existing_output_is_not_replaced_and_a_failure_leaves_nothing(job, tmp_path):
    losses_of(1, job(train_iters=1, eval_iters=0), tmp_path / "save")
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
