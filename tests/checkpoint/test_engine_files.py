"""Optimizer states without DeepSpeed's classes: as they are written, as they are restored, and those of older versions."""

import copy

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from distributed_runs import losses_of, run_ranks, train

from neox_code.checkpoint import engine_files
from neox_code.checkpoint.engine_files import WeightsOnlyEngine, make_plain, restore_objects
from neox_code.training.trackers import read_metrics


def used_scaler() -> DynamicLossScaler:
    """Return a loss scaler of fp16 in which every value differs from its start."""
    scaler = DynamicLossScaler(2**16, 10, 4, 3, True, raise_error_at_min_scale=False)
    scaler.cur_iter, scaler.last_overflow_iter, scaler.cur_hysteresis, scaler.cur_scale = 25, 13, 2, 2**12
    return scaler


@pytest.mark.parametrize("scaler", [used_scaler(), LossScaler(128.0)], ids=["dynamic", "static"])
def test_a_loss_scaler_is_restored_with_its_state(tmp_path, scaler):
    expected = copy.copy(scaler)
    path = str(tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    engine = WeightsOnlyEngine()
    engine.save({"optimizer_state_dict": {"loss_scaler": scaler}, "ds_version": "0"}, path)
    assert isinstance(torch.load(path, weights_only=True)["optimizer_state_dict"]["loss_scaler"], dict)
    restored = engine.load(path)["optimizer_state_dict"]["loss_scaler"]
    assert type(restored) is type(expected) and vars(restored) == vars(expected)


def write_objects(files: list[str], overrides: dict[str, object]) -> None:
    """Train on this rank, and save DeepSpeed's objects as older versions did."""
    engine_files.make_plain = lambda state: state | ({"zero_stage": int(state["zero_stage"])} if "zero_stage" in state else {})
    train(files, overrides)


@pytest.mark.parametrize("keys", [{}, {"precision": "bfloat16"}], ids=str)
def test_a_checkpoint_with_the_objects_of_deepspeed_resumes(job, tmp_path, keys):
    file, save = job(eval_iters=0, **keys), tmp_path / "save"
    run_ranks(1, write_objects, [str(file)], {"save": str(save), "exit_interval": 3})
    (path,) = (save / "global_step3").glob("*optim_states.pt")
    state = engine_files.load_file(path)["optimizer_state_dict"]
    assert not isinstance(next(iter(state["param_slice_mappings"][0].values())), dict)
    assert losses_of(1, file, save, load=str(save)) == losses_of(1, file, tmp_path / "whole")
    assert [row["iteration"] for row in read_metrics(save / "metrics.jsonl") if "train/lm_loss" in row] == [1, 2, 3, 4, 5, 6]


def test_states_without_objects_stay_as_they_are():
    state = {"clip_grad": 1.0, "base_optimizer_state": [{"step": 3}]}
    assert make_plain(state) == state
    assert restore_objects(state) is state
