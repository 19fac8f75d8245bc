"""Optimizer states without DeepSpeed's classes: as they are written, as they are restored, and those of older versions."""

import copy
from pathlib import Path

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from distributed_runs import losses_of, run_ranks, train

from neox_code.checkpoint import engine_files
from neox_code.checkpoint.engine_files import WeightsOnlyEngine
from neox_code.checkpoint.load import keep_optimizer_settings
from neox_code.training.trackers import read_metrics


def used_scaler() -> DynamicLossScaler:
    """Return a loss scaler of fp16 in which every value differs from its start."""
    scaler = DynamicLossScaler(2**16, 10, 4, 3, True, raise_error_at_min_scale=False)
    scaler.cur_iter, scaler.last_overflow_iter, scaler.cur_hysteresis, scaler.cur_scale = 25, 13, 2, 2**12
    return scaler


class Optimizer:
    """The attributes of DeepSpeed's optimizer that a checkpoint replaces."""

    def __init__(self, scaler: LossScaler | DynamicLossScaler, clip_grad: float = 1.0, eps: float = 1e-8):
        self.loss_scaler, self.dynamic_loss_scale, self.clip_grad = scaler, scaler.dynamic, clip_grad
        self.param_groups = [{"params": [], "eps": eps}]


def new_scaler() -> DynamicLossScaler:
    return DynamicLossScaler(2**16, 20, 2, 5, False)


@pytest.mark.parametrize("before", [used_scaler(), LossScaler(128.0)], ids=["dynamic", "static"])
@pytest.mark.parametrize("now", [new_scaler(), LossScaler(64.0)], ids=["dynamic", "static"])
@pytest.mark.parametrize("is_older", [False, True])
def test_a_loss_scale_has_the_state_of_the_checkpoint_and_the_settings_of_the_configuration(tmp_path, before, now, is_older):
    path = str(tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    engine = WeightsOnlyEngine()
    engine.save({"optimizer_state_dict": {"loss_scaler": before}}, path)
    torch.save(engine.files[Path(path).name], path)
    saved = torch.load(path, weights_only=True)["optimizer_state_dict"]["loss_scaler"]
    optimizer, scaler = Optimizer(copy.copy(now), clip_grad=0.5, eps=1e-6), copy.copy(now)
    with keep_optimizer_settings(optimizer):
        optimizer.loss_scaler, optimizer.dynamic_loss_scale = copy.copy(before) if is_older else saved, before.dynamic
        optimizer.clip_grad, optimizer.param_groups = 1.0, [{"params": [], "eps": 1e-8}]
    if now.dynamic and before.dynamic:
        scaler.cur_iter, scaler.last_overflow_iter, scaler.cur_hysteresis, scaler.cur_scale = 25, 13, 2, 2**12
    assert type(optimizer.loss_scaler) is type(scaler) and vars(optimizer.loss_scaler) == vars(scaler)
    assert (optimizer.dynamic_loss_scale, optimizer.clip_grad, optimizer.param_groups[0]["eps"]) == (scaler.dynamic, 0.5, 1e-6)


def write_objects(files: list[str], overrides: dict[str, object]) -> None:
    """Train on this rank, and save DeepSpeed's objects as older versions did."""
    engine_files.convert_to_plain_values = lambda state: (
        state | ({"zero_stage": int(state["zero_stage"])} if "zero_stage" in state else {})
    )
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
