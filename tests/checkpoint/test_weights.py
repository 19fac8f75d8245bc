"""Weights from checkpoints of any layout and origin; damaged and hostile files."""

import os
import pickle
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of, run_ranks, train

from neox_code.checkpoint.layout import find_checkpoint, get_layer_path, make_step_name, model_file
from neox_code.checkpoint.merge_ranks import cut_part
from neox_code.checkpoint.weights import read_weights
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError
from neox_code.generation.loading import load_model

MODEL = ModelConfig(num_layers=2, hidden_size=64, num_attention_heads=4, max_position_embeddings=64)
TOKENS = torch.arange(5, 45)[None]


def logits_of(file: Path, save: Path, **overrides: object) -> torch.Tensor:
    loaded = load_model(NeoXConfig.load([file], {"load": str(save), **overrides}), torch.device("cpu"))
    with torch.no_grad():
        return loaded.gpt(TOKENS)[..., : loaded.tokenizer.vocab_size]


@pytest.mark.parametrize(
    ("world_size", "keys"),
    [
        (4, {"model_parallel_size": 2, "pipe_parallel_size": 2}),
        (2, {"model_parallel_size": 2, "pipe_parallel_size": 0}),
        (2, {"model_parallel_size": 2, "no_weight_tying": False, "pos_emb": "learned"}),
        (2, {"model_parallel_size": 2, "num_kv_heads": 2, "activation": "swiglu", "mlp_multiple_of": 2, "norm": "rmsnorm"}),
        (2, {"model_parallel_size": 2, "gpt_j_residual": True, "pipe_parallel_size": 0}),
        (4, {"model_parallel_size": 4, "gpt_j_residual": True}),
    ],
)
def test_a_divided_checkpoint_loads_as_the_model_that_one_process_trains(job, tmp_path, world_size, keys):
    losses_of(world_size, job(**keys), tmp_path / "divided")
    alone = {**keys, "model_parallel_size": 1, "pipe_parallel_size": 1}
    losses_of(1, job(**alone), tmp_path / "alone")
    expected = logits_of(job(**alone), tmp_path / "alone")
    torch.testing.assert_close(logits_of(job(**keys), tmp_path / "divided"), expected, atol=1e-4, rtol=1e-4)


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Changes the state dict in a layer file, or the one within a model state file."""
    content = torch.load(path, weights_only=True)
    torch.save({**content, "module": change(content["module"])} if "module" in content else change(content), path)


def as_gpt_neox_has_it(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of today, and every buffer that GPT-NeoX has ever kept."""
    renamed = {name.replace("dense_h_to_4h", "linear1").replace("dense_4h_to_h", "linear2"): value for name, value in state.items()}
    blocks = {name.partition("attention.")[0] for name in state if "attention." in name}
    for block in blocks:
        renamed[f"{block}attention.rotary_emb.inv_freq"] = (10000 ** -(torch.arange(0, 16, 2) / 16)).half()
    return renamed


@pytest.mark.parametrize(("pipe_parallel_size", "pattern"), [(1, "layer_*"), (0, "mp_rank_*")])
def test_newer_names_and_buffers_of_gpt_neox_are_read_and_other_names_are_an_error(job, tmp_path, pipe_parallel_size, pattern):
    save = tmp_path / "save"
    file = job(pipe_parallel_size=pipe_parallel_size)
    whole = losses_of(1, file, save, checkpoint_factor=3)
    (save / make_step_name(3) / "run.json").unlink()  # as GPT-NeoX leaves it
    expected = logits_of(file, save, iteration=3)
    files = sorted((save / make_step_name(3)).glob(pattern))
    for path in files:
        rewrite(path, as_gpt_neox_has_it)
    torch.testing.assert_close(logits_of(file, save, iteration=3), expected, atol=0, rtol=0)
    assert losses_of(1, file, tmp_path / "resumed", load=str(save), iteration=3) == whole[3:]

    prefix = "" if pipe_parallel_size else "sequential.0."
    rewrite(files[0], lambda state: {**state, f"{prefix}soft_embedding.weight": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"holds sequential\.0\.soft_embedding\.weight"):
        logits_of(file, save, iteration=3)
    overrides = {"save": str(tmp_path / "third"), "load": str(save), "iteration": 3}
    (sentence,) = run_ranks(1, refusal_of, [str(file)], overrides)
    assert "soft_embedding.weight" in sentence


def refusal_of(files: list[str], overrides: dict) -> str:
    """The CheckpointError of a training run."""
    with pytest.raises(CheckpointError) as caught:
        train(files, overrides)
    return str(caught.value)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_holds_code_is_refused_and_does_not_run_it(tmp_path):
    folder = tmp_path / make_step_name(1)
    folder.mkdir()
    get_layer_path(folder, 0, 0).write_bytes(pickle.dumps({"weight": Payload(tmp_path / "hacked")}))
    torch.save({"weight": Payload(tmp_path / "hacked")}, get_layer_path(folder, 2, 0))
    with pytest.raises(CheckpointError, match=r"layer_0[02]-model_00"):
        read_weights(folder, MODEL)
    assert not (tmp_path / "hacked").exists()


def test_a_parameter_of_another_shape_is_reported(job, tmp_path):
    save = tmp_path / "save"
    losses_of(1, job(), save)
    for place in (save, save / make_step_name(6)):
        shutil.rmtree(place / "configs")
    (save / make_step_name(6) / "run.json").unlink()
    with pytest.raises(CheckpointError, match=r"mp_rank_00.* was written with hidden_size 64, and the configuration has 128"):
        logits_of(job(hidden_size=128), save)
    (save / make_step_name(6) / "mp_rank_00_model_states.pt").unlink()
    with pytest.raises(CheckpointError, match=r"has shape \(640, 64\) .* and \(any, 128\) in this model"):
        logits_of(job(hidden_size=128), save)
    with pytest.raises(CheckpointError, match=r"has 2 blocks, and num_layers is 3"):
        logits_of(job(num_layers=3), save)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({(0, 0): [1, 2]}, r"layer_00-model_00.* contains a list, not a dictionary of named tensors"),
        ({(0, 0): {"weight": 3}}, r"layer_00-model_00.* holds weight, a int that is not a dense tensor"),
        ({(0, 0): {"weight": torch.ones(2, 2).to_sparse()}}, r"holds weight, a Tensor that is not a dense tensor"),
        ({(0, 0): {"weight": torch.ones(2, device="meta")}}, r"holds weight, a Tensor that is not a dense tensor"),
        ({(0, 0): {"a": torch.ones(2)}, (0, 9999999999): {"a": torch.ones(2)}}, r"lacks layer 00 of tensor rank 1"),
        ({(0, 0): {"a": torch.ones(2)}, (0, 1): {"b": torch.ones(2)}}, r"layer 00 .* has a in shape \(2,\) on .* and None on 1"),
        ({(0, 0): {"a": torch.ones(2)}, (0, 1): {"a": torch.ones(3)}}, r"has a in shape \(2,\) on tensor rank 0 and \(3,\) on 1"),
        ({0: torch.ones(2)}, r"mp_rank_00.* contains a Tensor, not a dictionary of named tensors"),
        ({0: {"module": [1]}}, r"mp_rank_00.* contains a list, not a dictionary of named tensors"),
        ({0: {"module": {"sequential.norm.weight": torch.ones(2)}}}, r"holds sequential\.norm\.weight, which is not of the form"),
        ({0: {"module": {"weight": torch.ones(2)}}}, r"holds weight, which is not of the form sequential\.LAYER\.NAME"),
    ],
)
def test_a_file_of_another_layout_is_reported(tmp_path, files, sentence):
    for place, content in files.items():
        torch.save(content, get_layer_path(tmp_path, *place) if isinstance(place, tuple) else model_file(tmp_path, place))
    with pytest.raises(CheckpointError, match=sentence):
        read_weights(tmp_path, MODEL)


def test_a_changed_byte_is_noticed_by_the_checksum(tmp_path):
    path = get_layer_path(tmp_path, 0, 0)
    torch.save({"weight": torch.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"layer_00-model_00.* is damaged .*checksum"):
        read_weights(tmp_path, MODEL)


def test_latest_may_not_lead_out_of_the_folder(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "save").mkdir()
    for name in ("../secret", ""):
        (tmp_path / "save" / "latest").write_text(name)
        with pytest.raises(CheckpointError, match="names no folder in"):
            find_checkpoint(tmp_path / "save")


def test_the_error_for_a_missing_iteration_lists_the_existing_ones(tmp_path):
    for iteration in (10, 9, 200):
        (tmp_path / make_step_name(iteration)).mkdir()
    (tmp_path / "global_step300.partial").mkdir()
    with pytest.raises(CheckpointError, match="There are iterations 9, 10, 200"):
        find_checkpoint(tmp_path, 300)


def train_with_little_space(files: list[str], overrides: dict, limit: int) -> str:
    """Trains while no file may grow past `limit` bytes; returns the error's sentence."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        train(files, overrides)
    except CheckpointError as error:
        return str(error)
    raise AssertionError("the disk was not full")


def test_a_save_on_a_full_disk_keeps_the_earlier_checkpoint(job, tmp_path):
    save = tmp_path / "save"
    losses_of(1, job(), save, exit_interval=3)
    overrides = {"save": str(save), "load": str(save)}
    (sentence,) = run_ranks(1, train_with_little_space, [str(job())], overrides, 100_000)
    assert "could not be written" in sentence
    assert "Earlier checkpoints are unchanged" in sentence
    assert (save / "latest").read_text().strip() == make_step_name(3)
    assert [path.name for path in save.glob("global_step*")] == [make_step_name(3)]


ROW_BIASES = ("attention.dense.bias", "mlp.dense_4h_to_h.bias")


def row_biases(folder: Path, tensor_rank: int) -> dict[str, torch.Tensor]:
    """The row biases of both blocks in one tensor rank's layer files."""
    states = {layer: torch.load(get_layer_path(folder, layer, tensor_rank), weights_only=True) for layer in (2, 3)}
    return {f"{layer}.{name}": state[name] for layer, state in states.items() for name in ROW_BIASES}


def add_noise_to_row_biases(folder: Path) -> None:
    """Make the biases of a checkpoint on one tensor rank large, as a few steps of training leave them near 0."""
    for layer in (2, 3):
        rewrite(get_layer_path(folder, layer, 0), lambda state: {**state, **{name: torch.randn(64) for name in ROW_BIASES}})
    (folder / "run.json").unlink()  # which has the files' checksums


@pytest.mark.parametrize("is_parallel", [True, False])
def test_row_biases_of_gpt_neox_are_summands_with_a_parallel_residual_and_copies_otherwise(job, tmp_path, is_parallel):
    """GPT-NeoX's way to divide a checkpoint: bias / ranks with a parallel residual, copies with a sequential one."""
    save = tmp_path / "save"
    file = job(gpt_j_residual=is_parallel, train_iters=1, eval_iters=0)
    losses_of(1, file, save)
    folder = save / make_step_name(1)
    add_noise_to_row_biases(folder)
    expected = logits_of(file, save)
    shutil.rmtree(folder / "configs")
    (folder / "run.json").unlink(missing_ok=True)
    model = NeoXConfig.load([file]).model
    for layer in (0, 2, 3, 5, 6):
        whole = torch.load(get_layer_path(folder, layer, 0), weights_only=True)
        for rank in range(2):
            part = {name: cut_part(name, tensor, rank, 2, model).clone() for name, tensor in whole.items()}
            if is_parallel:
                part |= {name: whole[name] / 2 for name in ROW_BIASES if name in whole}
            torch.save(part, get_layer_path(folder, layer, rank))
    torch.testing.assert_close(logits_of(file, save), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("pipe_parallel_size", "ranks"), [(1, 2), (2, 4)])
def test_a_divided_run_with_a_parallel_residual_writes_summands_and_resumes_with_equal_losses(
    job, tmp_path, pipe_parallel_size, ranks
):
    save = tmp_path / "save"
    file = job(gpt_j_residual=True, model_parallel_size=2, pipe_parallel_size=pipe_parallel_size)
    whole = losses_of(ranks, file, save)
    halves = tmp_path / "halves"
    losses_of(ranks, file, halves, exit_interval=3)
    first, second = (row_biases(halves / make_step_name(3), rank) for rank in range(2))
    assert all(bias.abs().max() > 0 for bias in first.values())
    assert all(bias.abs().max() == 0 for bias in second.values())
    assert losses_of(ranks, file, halves, load=str(halves)) == whole


def test_copies_of_row_biases_that_older_versions_wrote_are_not_summed(job, tmp_path):
    save = tmp_path / "save"
    file = job(gpt_j_residual=True, model_parallel_size=2, train_iters=2, eval_iters=0)
    losses_of(2, file, save)
    expected = logits_of(file, save)
    folder = save / make_step_name(2)
    for layer in (2, 3):
        biases = {name: row_biases(folder, 0)[f"{layer}.{name}"] for name in ROW_BIASES}
        rewrite(get_layer_path(folder, layer, 1), lambda state, biases=biases: {**state, **biases})
    (folder / "run.json").unlink(missing_ok=True)
    torch.testing.assert_close(logits_of(file, save), expected, atol=0, rtol=0)


LINEAR1, LINEAR2 = ("linear1", "dense_h_to_4h"), ("linear2", "dense_4h_to_h")
GATED = {"num_kv_heads": 2, "activation": "swiglu", "mlp_multiple_of": 2, "norm": "rmsnorm"}


@pytest.mark.parametrize(("pipe_parallel_size", "pattern"), [(1, "layer_*"), (0, "mp_rank_*")])
def test_gated_layers_are_written_with_newer_names_and_read_with_older_ones_too(job, tmp_path, pipe_parallel_size, pattern):
    save = tmp_path / "save"
    file = job(**GATED, precision="bfloat16", pipe_parallel_size=pipe_parallel_size)
    whole = losses_of(1, file, save, checkpoint_factor=3)
    (save / make_step_name(3) / "run.json").unlink()
    expected = logits_of(file, save, iteration=3)
    for path in sorted((save / make_step_name(3)).glob(pattern)):
        content = torch.load(path, weights_only=True)
        names = [name.partition("mlp.")[2] for name in content.get("module", content) if "mlp." in name]
        assert set(names) <= {"linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"}
        rewrite(path, lambda state: {name.replace(*LINEAR1).replace(*LINEAR2): value for name, value in state.items()})
    torch.testing.assert_close(logits_of(file, save, iteration=3), expected, atol=0, rtol=0)
    assert losses_of(1, file, tmp_path / "resumed", load=str(save), iteration=3) == whole[3:]


@pytest.mark.parametrize(
    ("keys", "before", "after"),
    [
        (GATED | {"precision": "bfloat16"}, {"model_parallel_size": 1}, {"model_parallel_size": 2}),
        (GATED, {"model_parallel_size": 2}, {"model_parallel_size": 1}),
        (GATED, {"model_parallel_size": 1}, {"model_parallel_size": 2, "pipe_parallel_size": 0}),
        ({"gpt_j_residual": True}, {"model_parallel_size": 2}, {"model_parallel_size": 1, "pipe_parallel_size": 2}),
        ({"no_weight_tying": False}, {"pipe_parallel_size": 0}, {"model_parallel_size": 2, "pipe_parallel_size": 2}),
    ],
)
def test_weights_alone_are_loaded_into_any_layout(job, tmp_path, keys, before, after):
    """The first loss of a run that begins with the weights is the same as at the layout that wrote them."""
    save, keys = tmp_path / "save", {**keys, "train_batch_size": 4, "eval_iters": 0}
    losses_of(ranks_of(before), job(**keys, **before), save, train_iters=3)
    options = {"load": str(save), "finetune": True, "train_iters": 2}
    expected = losses_of(ranks_of(before), job(**keys, **before), tmp_path / "same", **options)
    found = losses_of(ranks_of(after), job(**keys, **after), tmp_path / "other", **options)
    assert found == pytest.approx(expected, rel=5e-4 if "precision" in keys else 1e-5)


def ranks_of(layout: dict[str, int]) -> int:
    return layout.get("model_parallel_size", 1) * max(1, layout.get("pipe_parallel_size", 1))
