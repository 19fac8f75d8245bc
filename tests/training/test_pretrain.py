"""Training on several ranks against training on one, and resuming against not stopping."""

import shutil

import pytest
import torch
from distributed_runs import losses_of

from neox_code.checkpoint.layout import get_layer_path, make_step_name

LAYOUTS = {
    "tensor": (2, {"model_parallel_size": 2}),
    "pipeline": (2, {"pipe_parallel_size": 2}),
    "data": (2, {}),
    "tensor and pipeline": (4, {"model_parallel_size": 2, "pipe_parallel_size": 2}),
}


@pytest.fixture(scope="module")
def alone() -> dict[str, list[float]]:
    """Losses of one process, by vocabulary; filled by the first test that needs them."""
    return {}


@pytest.mark.parametrize("vocabulary", ["640", "50,257"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_losses_of_one_process(job, tmp_path, layout, vocabulary, alone, wide_vocabulary):
    files = wide_vocabulary if vocabulary == "50,257" else {"hidden_dropout": 0.1, "attention_dropout": 0.1}
    if vocabulary not in alone:
        alone[vocabulary] = losses_of(1, job(**files), tmp_path / "alone")
    world_size, keys = LAYOUTS[layout]
    losses = losses_of(world_size, job(**files, **keys), tmp_path / "divided")
    assert losses == pytest.approx(alone[vocabulary], abs=5e-6)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("world_size", "keys"),
    [
        (1, {}),
        (1, {"pipe_parallel_size": 0, "precision": "bfloat16", "hidden_dropout": 0.1, "attention_dropout": 0.1}),
        (2, {"hidden_dropout": 0.1, "attention_dropout": 0.1}),
        (2, {"pipe_parallel_size": 0, "precision": "bfloat16", "zero_optimization": {"stage": 2}}),
        (2, {"model_parallel_size": 2, "hidden_dropout": 0.1}),
        (
            4,
            {
                "model_parallel_size": 2,
                "pipe_parallel_size": 2,
                "no_weight_tying": False,
                "pos_emb": "learned",
                "hidden_dropout": 0.1,
            },
        ),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one(job, tmp_path, world_size, keys):
    uninterrupted = losses_of(world_size, job(**keys), tmp_path / "whole")
    save = tmp_path / "halves"
    losses_of(world_size, job(**keys), save, load=str(save), exit_interval=3)
    assert losses_of(world_size, job(**keys), save, load=str(save)) == uninterrupted
    assert {path.name for path in save.glob("global_step*")} == {"global_step3", "global_step6"}


def test_the_plain_engine_gives_the_losses_of_the_pipeline_engine(job, tmp_path):
    expected = losses_of(1, job(gradient_predivide_factor=1.0), tmp_path / "pipeline")  # a setting of DeepSpeed's engines alone
    assert losses_of(1, job(pipe_parallel_size=0), tmp_path / "plain") == pytest.approx(expected, abs=5e-6)
    divided = losses_of(4, job(pipe_parallel_size=0, model_parallel_size=2), tmp_path / "plain2")
    assert divided == pytest.approx(expected, abs=5e-6)


def test_checkpoint_files_are_those_of_gpt_neox(job, tmp_path):
    save = tmp_path / "save"
    losses_of(1, job(), save)
    folder = save / make_step_name(6)
    assert (save / "latest").read_text().strip() == "global_step6"
    assert sorted(path.name for path in folder.glob("layer_*")) == [
        f"layer_{index:02d}-model_00-model_states.pt" for index in (0, 2, 3, 5, 6)
    ]
    assert (folder / "configs" / "job.yml").read_text() == job().read_text()
    block = torch.load(get_layer_path(folder, 2, 0), weights_only=True)
    assert {name: tuple(value.shape) for name, value in block.items()} == {
        "input_layernorm.weight": (64,),
        "input_layernorm.bias": (64,),
        "attention.query_key_value.weight": (192, 64),
        "attention.query_key_value.bias": (192,),
        "attention.dense.weight": (64, 64),
        "attention.dense.bias": (64,),
        "post_attention_layernorm.weight": (64,),
        "post_attention_layernorm.bias": (64,),
        "mlp.dense_h_to_4h.weight": (256, 64),
        "mlp.dense_h_to_4h.bias": (256,),
        "mlp.dense_4h_to_h.weight": (64, 256),
        "mlp.dense_4h_to_h.bias": (64,),
    }


def test_a_missing_checkpoint_is_an_error_unless_load_is_save(job, tmp_path):
    with pytest.raises(AssertionError, match="holds no checkpoint"):
        losses_of(1, job(), tmp_path / "save", load=str(tmp_path / "elsewhere"))


def test_a_truncated_checkpoint_is_named_and_nothing_is_lost(job, tmp_path):
    save = tmp_path / "save"
    losses_of(1, job(), save, exit_interval=3)
    path = get_layer_path(save / make_step_name(3), 2, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssertionError, match=r"layer_02-model_00-model_states\.pt is damaged: it has [\d,]+ of [\d,]+ bytes"):
        losses_of(1, job(), save, load=str(save))
    path.write_bytes(whole)
    assert len(losses_of(1, job(), save, load=str(save))) == 6
    shutil.rmtree(save)
