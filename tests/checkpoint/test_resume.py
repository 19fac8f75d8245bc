"""Where a run begins, what it compares, and what it never replaces: on folders of checkpoints, and in real runs in bf16."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_runs import losses_of, run_ranks, train

from neox_code.checkpoint.layout import TRAINING_LOCK, find_checkpoint, get_layer_path, make_step_name, model_file
from neox_code.checkpoint.record import RunRecord, read_record, write_record
from neox_code.checkpoint.resume import Start, check_layout, find_start, make_start_request
from neox_code.checkpoint.serialization import load_file
from neox_code.checkpoint.weights import read_weights
from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig
from neox_code.config.resume_rules import FIELDS_BY_EFFECT, MODEL, ORDER, SCHEDULE, compare
from neox_code.config.training import TrainingConfig
from neox_code.errors import CheckpointError, ConfigError, LaunchError
from neox_code.files import folder_lock
from neox_code.generation.loading import load_model
from neox_code.tokenizer.train_bpe import train_bpe
from neox_code.training.trackers import read_metrics

LAYOUT = {"pipe_parallel_size": 1, "model_parallel_size": 1, "data_parallel_size": 1}
VALUES: dict[str, Any] = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
BF16 = {"precision": "bfloat16", "pipe_parallel_size": 0, "train_micro_batch_size_per_gpu": 8}
SCRATCH = Start()


def step(save: Path, iteration: int, started_from: Any = None, has_record: bool = True) -> Path:
    """A checkpoint's folder with one file of weights, without `latest`."""
    folder = save / make_step_name(iteration)
    folder.mkdir(parents=True)
    get_layer_path(folder, 0, 0).write_bytes(b"weights")
    if has_record:
        write_record(folder, RunRecord({"iteration": iteration}, f"run of {save.name}", started_from, VALUES, {}, {}, {}, LAYOUT))
    return folder


def begin(**keys: Any) -> Start:
    paths = {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}
    return find_start(TrainingConfig(**paths), LAYOUT, VALUES)


# ---- where a run begins


def test_every_configuration_field_has_one_effect_on_resuming():
    named = [name for names in FIELDS_BY_EFFECT.values() for name in names]
    assert sorted(named) == sorted(FIELDS), "a new field goes into one group of resume_rules.FIELDS_BY_EFFECT"


@pytest.mark.parametrize(
    "latest",
    [None, "", "\n", "..", ".", "/", "global_step4/../global_step2", "global_step99", b"\xff\xfe", "a" * 5000, "\0"],
    ids=lambda latest: repr(latest)[:20],
)
def test_the_newest_checkpoint_is_loaded_if_latest_is_not_usable(tmp_path, latest, capfd):
    for iteration in (10, 9, 2):
        step(tmp_path, iteration)
    (tmp_path / "global_step11.partial").mkdir()
    if latest is not None:
        (tmp_path / "latest").write_bytes(latest if isinstance(latest, bytes) else latest.encode())
    assert begin(load=tmp_path, save=tmp_path).folder == tmp_path / "global_step10"
    assert find_checkpoint(tmp_path) == tmp_path / "global_step10"
    assert "using the newest checkpoint" in capfd.readouterr().err


def test_latest_with_an_absolute_path_is_not_followed(tmp_path):
    elsewhere = step(tmp_path / "elsewhere", 7)
    (tmp_path / "save").mkdir()
    (tmp_path / "save" / "latest").write_text(str(elsewhere))
    with pytest.raises(CheckpointError, match=r"names no folder in .*It has no folder global_stepN"):
        begin(load=tmp_path / "save", save=tmp_path / "save")


def test_latest_may_be_a_link_to_the_folder_and_save_a_link_to_a_folder(tmp_path):
    save = tmp_path / "disk"
    step(save, 2)
    step(save, 4)
    (save / "latest").symlink_to("global_step4")
    (tmp_path / "link").symlink_to(save)
    assert begin(load=save, save=tmp_path / "link").folder == tmp_path / "link" / "global_step4"


def test_a_save_that_was_killed_between_its_two_renames_is_completed(tmp_path):
    step(tmp_path, 2)
    (tmp_path / "latest").write_text("global_step2\n")
    step(tmp_path, 4)
    (tmp_path / "latest.partial").write_text("global_step4\n")
    assert begin(load=tmp_path, save=tmp_path).folder == tmp_path / "global_step4"
    assert (tmp_path / "latest").read_text() == "global_step4\n"


@pytest.mark.parametrize("name", ["global_step9", "global_step" + "9" * 300, "../elsewhere/global_step4", ""])
def test_a_save_that_is_killed_before_the_rename_does_not_change_latest(tmp_path, name):
    step(tmp_path / "save", 2)
    step(tmp_path / "elsewhere", 4)
    (tmp_path / "save" / "latest").write_text("global_step2\n")
    (tmp_path / "save" / "latest.partial").write_text(name)
    assert begin(load=tmp_path / "save", save=tmp_path / "save").iteration == 2
    assert (tmp_path / "save" / "latest").read_text() == "global_step2\n"
    assert not (tmp_path / "save" / "latest.partial").exists()


def test_a_later_checkpoint_is_never_replaced(tmp_path):
    step(tmp_path, 2)
    step(tmp_path, 4)
    (tmp_path / "latest").write_text("global_step2\n")
    with pytest.raises(CheckpointError, match=r"holds checkpoints of iterations 4, which this run would replace: it begins at 2"):
        begin(load=tmp_path, save=tmp_path)
    with pytest.raises(CheckpointError, match="iterations 4, which"):
        begin(load=tmp_path, save=tmp_path, iteration=2)
    other = begin(load=tmp_path, save=tmp_path / "other", iteration=2)
    assert (other.folder, other.iteration) == (tmp_path / "global_step2", 2)


def test_an_incomplete_checkpoint_is_reported_with_its_file(tmp_path):
    step(tmp_path, 2)
    folder = step(tmp_path, 4)
    get_layer_path(folder, 0, 0).write_bytes(b"weigh")
    with pytest.raises(
        CheckpointError, match=r"layer_00-model_00-model_states.pt is damaged: it has 5 of 7 bytes\. .* move .*step4"
    ):
        begin(load=tmp_path, save=tmp_path)
    shutil.rmtree(folder)
    assert begin(load=tmp_path, save=tmp_path).iteration == 2
    empty = tmp_path / "global_step6"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="global_step6 holds no file of weights"):
        begin(load=tmp_path, save=tmp_path)
    model_file(empty, 0).write_bytes(b"state")
    with pytest.raises(CheckpointError, match=r"global_step6 has no run\.json, .* global_step2 has one: it is incomplete"):
        begin(load=tmp_path, save=tmp_path)


def test_a_run_begins_from_scratch_only_without_checkpoints(tmp_path):
    assert begin(save=tmp_path / "new") == begin(save=tmp_path / "new", load=tmp_path / "new") == begin() == SCRATCH
    step(tmp_path / "old", 3)
    resumed = begin(save=tmp_path / "old")
    assert (resumed.iteration, resumed.run) == (3, "run of old")
    with pytest.raises(CheckpointError, match="is missing"):
        begin(save=tmp_path / "new", load=tmp_path / "nowhere")


@pytest.mark.parametrize("keys", [{"finetune": True}, {"iteration": 5}])
def test_keys_that_need_a_checkpoint_are_an_error_without_one(tmp_path, keys):
    with pytest.raises(ConfigError, match=rf"{next(iter(keys))} \(.*\) needs a checkpoint"):
        begin(save=tmp_path / "new", **keys)
    for load in ("new", "other"):
        with pytest.raises(CheckpointError):
            begin(save=tmp_path / "new", load=tmp_path / load, **keys)


@pytest.mark.parametrize("keys", [{}, {"finetune": True}])
def test_a_run_does_not_write_into_the_folder_of_a_hugging_face_model(tmp_path, keys):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(CheckpointError, match="which is a Hugging Face model"):
        begin(save=tmp_path, load=tmp_path, **keys)


@pytest.mark.parametrize("keys", [{"finetune": True}, {"no_load_optim": True}, {"iteration": 2}, {}])
def test_a_run_that_began_from_another_folder_resumes_from_its_own_save(tmp_path, keys):
    base, save = tmp_path / "base", tmp_path / "save"
    step(base, 2)
    first = begin(load=base, save=save, **keys)
    assert (first.folder, first.resets, first.run) == (base / "global_step2", "finetune" in keys, None)
    assert first.loads_optimizer == (keys in ({"iteration": 2}, {}))
    step(save, 1 if first.resets else 3, first.started_from)
    again = begin(load=base, save=save, **keys)
    assert (again.folder, again.resets, again.loads_optimizer) == (find_checkpoint(save), False, True)
    assert again.run == "run of save"
    assert begin(load=save, save=save) == again
    shutil.rmtree(base)
    assert begin(load=base, save=save, **keys) == again


@pytest.mark.parametrize("keys", [{"load": "other"}, {"load": "base", "finetune": True}, {"load": "save", "finetune": True}])
def test_a_save_of_another_run_is_refused(tmp_path, keys):
    request = make_start_request(TrainingConfig(load=str(tmp_path / "base")))
    step(tmp_path / "save", 4, request)
    step(tmp_path / "base", 4)
    step(tmp_path / "other", 9)
    with pytest.raises(CheckpointError, match=r"the key save \(.*\) has checkpoints of another run, the newest global_step4"):
        begin(**{**keys, "load": tmp_path / keys["load"], "save": tmp_path / "save"})


def test_a_run_that_restarted_at_an_earlier_iteration_resumes_from_there(tmp_path):
    for iteration in (2, 4):
        step(tmp_path, iteration)
    shutil.move(tmp_path / "global_step4", tmp_path / "aside")
    first = begin(load=tmp_path, save=tmp_path, iteration=2)
    assert (first.iteration, first.run) == (2, None)
    step(tmp_path, 3, first.started_from)
    assert begin(load=tmp_path, save=tmp_path, iteration=2).iteration == 3


def test_the_optimizer_state_is_skipped_again_only_if_it_does_not_fit(tmp_path):
    step(tmp_path, 2, make_start_request(TrainingConfig(load=str(tmp_path), no_load_optim=True)))
    training = TrainingConfig(load=str(tmp_path), save=str(tmp_path), no_load_optim=True)
    assert find_start(training, LAYOUT, VALUES).loads_optimizer
    other = find_start(training, LAYOUT | {"data_parallel_size": 2}, VALUES)
    assert other.loads_optimizer and other.is_resharded
    eight_bits = VALUES | {"use_bnb_optimizer": True}
    assert not find_start(training, LAYOUT | {"data_parallel_size": 2}, eight_bits).loads_optimizer
    assert not find_start(training, LAYOUT, VALUES | {"optimizer_type": "lion"}).loads_optimizer


def test_an_optimizers_state_of_another_layout_is_resharded(tmp_path):
    folder = step(tmp_path, 2)
    for axis in LAYOUT:
        for values in (VALUES, VALUES | {"zero_stage": 3}):
            start = find_start(TrainingConfig(load=str(tmp_path), save=str(tmp_path)), LAYOUT | {axis: 7}, values)
            assert start.is_resharded
            check = nullcontext() if values is VALUES else pytest.raises(CheckpointError, match="because of ZeRO stage 3")
            with check:
                check_layout(start, start.record, LAYOUT | {axis: 7}, values)
    assert not begin(load=tmp_path, save=tmp_path).is_resharded
    (folder / "zero").mkdir()
    assert begin(load=tmp_path, save=tmp_path).is_resharded
    (folder / "run.json").unlink()
    start = find_start(TrainingConfig(load=str(tmp_path), save=str(tmp_path)), LAYOUT, VALUES | ZERO_2 | ROUND_ROBIN)
    with pytest.raises(CheckpointError, match=r"must be divided over the ranks of this run.*round_robin_gradients: true.*no_load"):
        check_layout(start, None, LAYOUT, VALUES | ZERO_2 | ROUND_ROBIN)


ZERO_2 = {"zero_stage": 2}
ROUND_ROBIN = {"zero_optimization": {"round_robin_gradients": True}}
OTHER_PIPELINE = {"pipe_parallel_size": 1}


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        ({"zero_stage": 0}, ZERO_2, None),
        (
            {"zero_stage": 1},
            {"zero_stage": 3},
            "stage 1, and this run has zero_optimization.stage 3.*ZeRO stage 3",
        ),
        ({"zero_stage": 3}, {"zero_stage": 3, "zero_optimization": {"sub_group_size": 9}}, "sub_group_size null, and .* 9"),
        (ZERO_2, ZERO_2 | ROUND_ROBIN, "round_robin_gradients false, and .*round_robin_gradients true"),
        (ZERO_2 | ROUND_ROBIN, {"zero_stage": 1, "precision": "bfloat16"} | ROUND_ROBIN, "gradients true, and .* false"),
        (
            ZERO_2 | ROUND_ROBIN,
            ZERO_2 | ROUND_ROBIN | OTHER_PIPELINE,
            "pipe_parallel_size 0, .* 1.*round_robin_gradients: true",
        ),
        ({"zero_stage": 1, "precision": "bfloat16"}, {"zero_stage": 1, "precision": "bfloat16"} | ROUND_ROBIN, None),
        (
            {"use_bnb_optimizer": True},
            {"use_bnb_optimizer": True} | OTHER_PIPELINE,
            "pipe_parallel_size 0.*bnb_optimizer: true",
        ),
        ({}, OTHER_PIPELINE, None),
        ({"pipe_parallel_size": 2}, {"pipe_parallel_size": 2, "pipe_partition_method": "uniform"}, None),
    ],
)
def test_keys_that_determine_the_optimizers_files_are_compared(tmp_path, before, now, sentence):
    record = RunRecord({"iteration": 2}, "run", None, VALUES | before, {}, {}, {}, LAYOUT)
    start = Start(step(tmp_path, 2), record)
    expected = pytest.raises(CheckpointError, match=f"{sentence}.*no_load_optim: true") if sentence else nullcontext()
    with expected:
        check_layout(start, record, LAYOUT, VALUES | now)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("state", {}), ("state", None), ("state", {"iteration": "4"}), ("config", []), ("tokenizer", None), ("files", 3)),
        *(("state", {"iteration": 4, "consumed_samples": value}) for value in ([1], -1, float("nan"), 10**30)),
        *(
            ("layout", {"model_parallel_size": "x"}),
            ("layout", {"scored_rows": 10**12}),
            ("files", {"../a": 1}),
            ("run", "../a"),
            ("run", None),
        ),
        *(
            ("config", VALUES | {key: value})
            for key, value in (("zero_optimization", 1.5), ("hidden_size", 0), ("num_layers", "2"))
        ),
    ],
)
def test_a_record_with_values_of_another_type_is_damaged(tmp_path, key, value):
    file = step(tmp_path, 4) / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=r"run.json is damaged .*Copy the checkpoint again, or remove the file"):
        begin(load=tmp_path, save=tmp_path)


def test_a_checkpoint_without_a_record_resumes_at_the_iteration_of_its_folder_name(tmp_path):
    step(tmp_path, 12, has_record=False)
    (tmp_path / "latest").write_text("global_step12")
    found = begin(load=tmp_path, save=tmp_path)
    assert (found.iteration, found.record, found.run) == (12, None, None)


# ---- what is compared


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_attention_heads": 8}, ["num_attention_heads", "num_kv_heads"]),
        ({"num_kv_heads": 4}, []),
        ({"num_kv_heads": 2}, ["num_kv_heads"]),
        ({"kv_channels": 16}, []),
        ({"kv_channels": 32}, ["kv_channels"]),
        ({"qk_norm": True, "rms_norm_epsilon": 1e-6}, ["qk_norm"]),
        ({"intermediate_size": 256}, []),
        ({"mlp_multiple_of": 96}, ["intermediate_size"]),
        ({"rotary_pct": 0.5}, []),
        ({"pos_emb": "rotary"}, ["pos_emb"]),
        ({"max_position_embeddings": 128}, ["max_position_embeddings"]),
        ({"bias_gelu_fusion": True}, ["bias_gelu_fusion"]),
        ({"activation": "relu", "bias_gelu_fusion": True}, ["activation"]),
        ({"rms_norm_epsilon": 1e-6}, []),
        ({"layernorm_epsilon": 1e-6}, ["layernorm_epsilon"]),
        ({"gpt_j_residual": True, "no_weight_tying": True}, ["gpt_j_residual", "no_weight_tying"]),
        ({"init_method": "small_init", "model_parallel_size": 2, "save": "elsewhere"}, []),
    ],
)
def test_models_are_compared_by_their_function(changes, expected):
    found = [difference.field for difference in compare(VALUES, {**VALUES, **changes}, MODEL)]
    assert sorted(found) == sorted(expected)


def test_values_from_json_equal_those_of_the_configuration():
    values = NeoXConfig.load([], VALUES | {"betas": [0.9, 0.95], "lr": 1e-3, "attention_config": [[["flash"], "all"]]}).values()
    stored = json.loads(json.dumps(values))
    assert not [difference for effect in FIELDS_BY_EFFECT for difference in compare(stored, values, effect)]
    assert [difference.field for difference in compare(stored, values | {"betas": (0.9, 0.99)}, SCHEDULE)] == ["betas"]


def test_a_field_of_another_version_is_not_compared():
    for effect in FIELDS_BY_EFFECT:
        assert not compare({**VALUES, "former_field": 1}, VALUES, effect)


def test_the_sample_length_is_that_of_the_context_unless_it_is_set():
    assert not compare(VALUES, {**VALUES, "seq_length": 64}, ORDER)
    assert [difference.field for difference in compare(VALUES, {**VALUES, "seq_length": 32}, ORDER)] == ["seq_length"]


# ---- real runs


def error_of(files: list[str], overrides: dict[str, Any]) -> str:
    """The error of a training run on this rank, which must be the user's."""
    with pytest.raises((CheckpointError, LaunchError, ConfigError)) as caught:
        train(files, overrides)
    return str(caught.value)


def refused(job: Any, save: Path, world_size: int = 1, **keys: Any) -> str:
    """The message with which a run is refused, the same on all ranks."""
    messages = set(run_ranks(world_size, error_of, [str(job(**keys))], {"save": str(save), "load": str(save)}))
    assert len(messages) == 1
    return messages.pop()


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*_rank0.log"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs it leaves its run."""
    return tmp_path_factory.mktemp("trained") / "save"


@pytest.fixture
def save(trained: Path, job: Any, tmp_path: Path) -> Path:
    """A folder with the steps 0, 2 and 4 of a run of 4 steps in bf16; a copy for each test."""
    if not trained.exists():
        losses_of(1, job(**RUN), trained)
    return shutil.copytree(trained, tmp_path / "save")


RUN = BF16 | {"train_iters": 4, "checkpoint_factor": 2, "extra_save_iters": [0], "eval_iters": 0}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_step_0_is_saved_once_and_trains_to_the_same_losses(job, save):
    assert sorted(path.name for path in save.glob("global_step*")) == ["global_step0", "global_step2", "global_step4"]
    losses = [row["train/lm_loss"] for row in read_metrics(save / "metrics.jsonl")]
    shutil.rmtree(save / "global_step2")
    shutil.rmtree(save / "global_step4")
    (save / "latest").unlink()
    first = bytes_of(save / "global_step0")
    assert losses_of(1, job(**RUN), save, load=str(save)) == losses
    assert bytes_of(save / "global_step0") == first
    assert read_record(save / "global_step4").run == read_record(save / "global_step0").run


def test_without_latest_a_run_resumes_and_replaces_nothing(job, save):
    before = bytes_of(save)
    (save / "latest").unlink()
    losses_of(1, job(**RUN | {"train_iters": 5}), save, load=str(save))
    after = bytes_of(save)
    assert after["latest"] == b"global_step5\n"
    assert all(after[name] == content for name, content in before.items() if name.startswith("global_step"))


def test_a_finished_run_ends_at_once(job, save, tmp_path):
    before = bytes_of(save)
    for train_iters in (4, 3):
        overrides = {"save": str(save), "load": str(save), "log_dir": str(tmp_path / "logs")}
        assert run_ranks(1, train, [str(job(**RUN | {"train_iters": train_iters}))], overrides) == [4]
        assert f"global_step4 is at iteration 4 of train_iters {train_iters}: nothing is left to do" in log_of(tmp_path / "logs")
    assert bytes_of(save) == before
    assert "training from" not in log_of(tmp_path / "logs")


def test_another_model_is_refused_with_all_differences_on_every_rank(job, save):
    before = bytes_of(save)
    keys = {"num_attention_heads": 8, "rotary_pct": 0.5, "bias_gelu_fusion": True, "train_iters": 6, "num_workers": 0}
    message = refused(job, save, 2, **RUN | keys | {"train_micro_batch_size_per_gpu": 4})
    assert "is of another model" in message
    for text in ("num_attention_heads (8, ", "was (4, ", "rotary_pct (0.5, ", "was (1.0, default)", "bias_gelu_fusion (true, "):
        assert text in message
    assert "job.yml:" in message
    assert bytes_of(save) == before


def test_another_optimizer_needs_no_load_optim(job, save):
    other = {"train_iters": 5, "optimizer": {"type": "SGD", "params": {"lr": 0.003, "momentum": 0.9}}}
    assert "optimizer_type (sgd with momentum, " in refused(job, save, **RUN | other)
    assert len(losses_of(1, job(**RUN | other, no_load_optim=True), save, load=str(save))) == 1


def test_another_padded_vocabulary_changes_no_loss(job, save, tmp_path):
    longer = {**RUN, "train_iters": 5}
    shutil.copytree(save, tmp_path / "other")
    expected = losses_of(1, job(**longer), save, load=str(save))
    wider = {**longer, "make_vocab_size_divisible_by": 1024}
    found = losses_of(1, job(**wider), tmp_path / "other", load=str(tmp_path / "other"))
    assert found == pytest.approx(expected, rel=1e-5)


def test_zero_stage_3_resumes_from_its_own_checkpoint_alone(job, save, tmp_path):
    zero_3 = RUN | {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 3}}
    losses = losses_of(2, job(**zero_3), tmp_path / "zero_3")
    shutil.rmtree(tmp_path / "zero_3" / "global_step4")
    for changed, reason in [
        ({"zero_optimization": {"stage": 1}}, "stage 3, and .* 1"),
        ({"no_load_optim": True}, "without the optimizer"),
    ]:
        assert re.search(reason, refused(job, tmp_path / "zero_3", 2, **zero_3 | changed))
    with pytest.raises(CheckpointError, match="without the optimizer state"):
        read_weights(tmp_path / "zero_3" / "global_step2", NeoXConfig.load([job(**zero_3)]).model)
    assert losses_of(2, job(**zero_3), tmp_path / "zero_3", load=str(tmp_path / "zero_3")) == losses
    assert "zero_optimization.stage 1, and this run has" in refused(
        job, save, **RUN | {"train_iters": 5, "zero_optimization": {"stage": 3}}
    )


def test_changes_of_schedule_and_order_are_reported_and_the_position_in_tokens_is_kept(job, save, tmp_path):
    keys = {"train_iters": 5, "seed": 7, "seq_length": 32, "train_batch_size": 4, "train_micro_batch_size_per_gpu": 4}
    optimizer = {"type": "Adam", "params": {"lr": 0.03, "betas": [0.9, 0.95]}}
    losses_of(1, job(**RUN | keys | {"optimizer": optimizer}), save, load=str(save), log_dir=str(tmp_path / "logs"))
    log = log_of(tmp_path / "logs")
    for text in ("lr (0.03, ", "seed (7, ", "seq_length (32, ", "train_batch_size (4, ", "train_iters (5, "):
        assert f"global_step4: {text}" in log
    assert log.count("changed since") == 5
    before, after = (read_record(save / make_step_name(iteration)) for iteration in (4, 5))
    assert (before.state["consumed_samples"], before.state["consumed_tokens"]) == (4 * 8, 4 * 8 * 64)
    assert (after.state["consumed_samples"], after.state["consumed_tokens"]) == (4 * 8 * 2 + 4, 4 * 8 * 64 + 4 * 32)


def test_changed_hyperparameters_act_on_the_resumed_run(job, save):
    keys = {"weight_decay": 0.5, "gradient_clipping": 0.02, "train_iters": 5}
    parameters = {"lr": 0.003, "betas": [0.8, 0.9], "eps": 1e-3}
    losses_of(1, job(**RUN | keys | {"optimizer": {"type": "Adam", "params": parameters}}), save, load=str(save))
    (path,) = (save / "global_step5").glob("*optim_states.pt")
    state = load_file(path)["optimizer_state_dict"]
    assert state["clip_grad"] == 0.02
    groups = [
        (group["weight_decay"], tuple(group["betas"]), group["eps"]) for group in state["base_optimizer_state"]["param_groups"]
    ]
    assert groups == [(0.5, (0.8, 0.9), 1e-3), (0.0, (0.8, 0.9), 1e-3)]


def test_a_token_file_that_changed_is_reported(job, job_folder, save, tmp_path):
    from neox_code.data.indexed_dataset import IndexedDataset, IndexedDatasetWriter

    tokens = IndexedDataset(job_folder / "tokens")
    with IndexedDatasetWriter(tmp_path / "tokens", tokens.dtype) as writer:
        for index in range(len(tokens) - 1, -1, -1):
            writer.add_document(tokens[index])
    keys = {"train_iters": 5, "data_path": str(tmp_path / "tokens")}
    losses_of(1, job(**RUN | keys), save, load=str(save), log_dir=str(tmp_path / "logs"))
    assert "changed since" in log_of(tmp_path / "logs") and "data: data_path[0]" in log_of(tmp_path / "logs")


@pytest.fixture
def other_vocabulary(tmp_path: Path) -> dict[str, str]:
    """A vocabulary of as many entries with other ids."""
    train_bpe(iter(["void main() { return other; }\n" * 40 + "the quick brown fox jumps\n" * 40]), 640, tmp_path / "vocabulary")
    return {"vocab_file": str(tmp_path / "vocabulary/code-vocab.json"), "merge_file": str(tmp_path / "vocabulary/code-merges.txt")}


def test_a_checkpoint_contains_its_vocabulary_and_another_one_is_refused(job, job_folder, save, other_vocabulary):
    names = ("code-vocab.json", "code-merges.txt")
    for name in names:
        assert (save / "global_step4" / "tokenizer" / name).read_bytes() == (job_folder / name).read_bytes()
    other = RUN | {"train_iters": 5, **other_vocabulary}
    assert "was trained with the vocabulary of GPT2BPETokenizer" in refused(job, save, **other)
    with pytest.raises(CheckpointError, match=r"with the vocabulary of .*code-vocab.json .*vocabulary/code-vocab.json"):
        load_model(NeoXConfig.load([job(**other)], {"load": str(save)}), torch.device("cpu"))
    own = dict(zip(("vocab_file", "merge_file"), (str(save / "global_step4/tokenizer" / name) for name in names), strict=True))
    load_model(NeoXConfig.load([job(**RUN | own)], {"load": str(save)}), torch.device("cpu"))
    same = {"tokenizer_type": "HFTokenizer", "vocab_file": str(job_folder / "tokenizer.json"), "merge_file": None}
    load_model(NeoXConfig.load([job(**RUN | same)], {"load": str(save)}), torch.device("cpu"))


def test_generation_refuses_a_checkpoint_of_another_model(job, save):
    config = NeoXConfig.load([job(**RUN, num_attention_heads=8)], {"load": str(save)})
    with pytest.raises(CheckpointError, match=r"num_attention_heads \(8, .*job.yml:\d+\) was \(4, .*job.yml:\d+\)"):
        load_model(config, torch.device("cpu"))
    (save / "global_step4" / "run.json").unlink()
    with pytest.raises(CheckpointError, match=r"num_attention_heads .* was \(4, .*merged.yml:\d+\)"):
        load_model(config, torch.device("cpu"))


def test_a_stopped_fine_tuning_resumes_with_its_optimizer_state(job, save, tmp_path):
    keys = {"finetune": True, "load": str(save)}
    whole = losses_of(1, job(**RUN), tmp_path / "whole", **keys)
    losses_of(1, job(**RUN), tmp_path / "tuned", exit_interval=2, **keys)
    assert losses_of(1, job(**RUN), tmp_path / "tuned", **keys) == whole
    assert sorted(path.name for path in (tmp_path / "tuned").glob("global_step*")) == [
        "global_step0",
        "global_step2",
        "global_step4",
    ]


# ---- one run at a time


def test_a_second_run_in_the_same_save_is_refused(job, save):
    with folder_lock(save, TRAINING_LOCK):
        message = refused(job, save, **RUN | {"train_iters": 5})
    assert f"is in use by process {os.getpid()} on " in message
    assert len(losses_of(1, job(**RUN | {"train_iters": 5}), save, load=str(save))) == 5


HOLDER = """
import os, sys, time
from neox_code.files import folder_lock
with folder_lock(sys.argv[1]):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process_even_if_a_child_still_runs(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(LaunchError, match=f"process {holder.pid} on"), folder_lock(tmp_path):
            pass
        holder.kill()
        holder.wait()
        os.kill(child, 0)
        with folder_lock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


# ---- what several runs share


def test_runs_that_share_folders_keep_each_others_curves_and_logs(job, tmp_path):
    shared = {"tensorboard_dir": "board", "log_dir": "logs", "metrics_file": "metrics.jsonl"}
    shared = {key: str(tmp_path / name) for key, name in shared.items()}
    keys = RUN | {"train_iters": 2, "extra_save_iters": []} | shared
    run_ranks(1, train, [str(job(**keys))], {"save": str(tmp_path / "a/ck"), "load": str(tmp_path / "a/ck")})
    first = bytes_of(tmp_path / "board") | bytes_of(tmp_path / "logs")
    time.sleep(1)  # names of runs have seconds
    run_ranks(1, train, [str(job(**keys))], {"save": str(tmp_path / "b/ck"), "load": str(tmp_path / "b/ck")})
    now = bytes_of(tmp_path / "board") | bytes_of(tmp_path / "logs")
    assert all(now[name] == content for name, content in first.items())
    runs = [read_record(find_checkpoint(tmp_path / folder / "ck")).run for folder in ("a", "b")]
    assert sorted(path.name for path in (tmp_path / "board").iterdir()) == sorted(runs)
    run_ranks(1, train, [str(job(**keys | {"train_iters": 3}))], {"save": str(tmp_path / "a/ck"), "load": str(tmp_path / "a/ck")})
    assert sorted(path.name for path in (tmp_path / "board").iterdir()) == sorted(runs)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["run"], row["iteration"]) for row in rows] == [
        (runs[0], 1),
        (runs[0], 2),
        (runs[1], 1),
        (runs[1], 2),
        (runs[0], 3),
    ]
    assert [row["iteration"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
