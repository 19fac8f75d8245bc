"""Runs that end before their last step, that return to a checkpoint, and that are traced; the norm of the weights."""

import gzip
import json
import math
from typing import Any

import pytest
from distributed_runs import losses_of, run_ranks

from neox_code.checkpoint.layout import list_checkpoints
from neox_code.checkpoint.load import load_client_state
from neox_code.checkpoint.weights import read_weights
from neox_code.config.neox import NeoXConfig
from neox_code.data.order_log import find_order_entry
from neox_code.files import read_json_lines
from neox_code.launch.stop_signals import StopRequest
from neox_code.logs import log_to_folder
from neox_code.training import pretrain
from neox_code.training.loop import Run
from neox_code.training.state import TrainingState
from neox_code.training.step import StepResult


def train_and_report(files: list[str], overrides: dict[str, Any]) -> tuple[int, bool]:
    """Return the last iteration, and True if the exit status asks to resume."""
    stop = StopRequest()
    state = pretrain.pretrain(NeoXConfig.load(files, overrides), stop)
    return state.iteration, stop.was_followed


def test_exit_interval_and_exit_duration_save_and_ask_to_resume(job, tmp_path):
    keys = {"eval_iters": 0, "profile": True, "profile_step_start": 2, "profile_step_stop": 3, "model_parallel_size": 2}
    save = tmp_path / "save"
    folders = {"save": str(save), "load": str(save)}
    assert run_ranks(2, train_and_report, [str(job(**keys))], folders | {"exit_duration": 1e-4}) == [(1, True)] * 2
    assert run_ranks(2, train_and_report, [str(job(**keys))], folders | {"exit_interval": 4}) == [(4, True)] * 2
    assert run_ranks(2, train_and_report, [str(job(**keys))], folders | {"exit_interval": 6}) == [(6, False)] * 2
    assert list(list_checkpoints(save)) == [1, 4, 6]
    for rank in (0, 1):
        trace = json.loads(gzip.decompress((save / "profile" / f"rank{rank}.json.gz").read_bytes()))
        names = {event["name"] for event in trace["traceEvents"]}
        assert {"aten::mm", "aten::embedding"} <= names
    one = losses_of(1, job(eval_iters=0), tmp_path / "one")
    assert len(one) == 6
    norms = [[row["train/param_norm"] for row in read_json_lines(folder / "metrics.jsonl")] for folder in (save, tmp_path / "one")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    weights = read_weights(tmp_path / "one/global_step6", NeoXConfig.load([job()]).model)
    assert norms[1][-1] == pytest.approx(math.sqrt(sum(float(weight.double().square().sum()) for _, weight in weights.items())))


def train_with_fault(files: list[str], overrides: dict[str, Any], log_dir: str, iteration: int, faults: int) -> TrainingState:
    """Train on this rank. The steps after `iteration` have no finite loss, as often as `faults`."""
    log_to_folder(log_dir)
    run_one_step = Run.run_one_step
    left = [faults]

    def fail(self: Run, batches: Any) -> Any:
        step = self.step
        if self.state.iteration == iteration and left[0]:
            left[0] -= 1

            def read_and_skip(engine: Any, batches: Any, grid: Any) -> Any:
                for _ in range(self.sizes.accumulation_steps):
                    next(batches)
                return lambda: StepResult(math.nan, None, True)

            self.step = read_and_skip
        try:
            return run_one_step(self, batches)
        finally:
            self.step = step

    Run.run_one_step = fail
    return pretrain.pretrain(NeoXConfig.load(files, overrides))


def train_after_skipped_samples(files: list[str], overrides: dict[str, Any], samples: int) -> None:
    from_dict = TrainingState.from_dict

    def move(state: Any) -> TrainingState:
        moved = from_dict(state)
        moved.consumed_samples += samples if moved.iteration == 2 else 0
        return moved

    TrainingState.from_dict = move
    pretrain.pretrain(NeoXConfig.load(files, overrides))


def test_a_run_returns_to_its_checkpoint_and_goes_on_after_the_samples_of_the_faulty_step(job, tmp_path):
    keys = {"eval_iters": 0, "checkpoint_factor": 2, "max_skipped_steps": 1, "pipe_parallel_size": 0}
    save, other = tmp_path / "save", tmp_path / "other"
    arguments = [str(job(**keys))], {"save": str(save), "max_rewinds": 2}, str(tmp_path / "logs"), 3, 2
    for state in run_ranks(2, train_with_fault, *arguments):
        assert (state.iteration, state.consumed_samples, state.skipped_steps) == (6, (6 + 2 * 2) * 8, 0)
    (log,) = (tmp_path / "logs").glob("*rank0.log")
    for number in (1, 2):
        assert f"Training returns to iteration 2 and skips the samples since (max_rewinds: {number} of 2)" in log.read_text()
    rows = list(read_json_lines(save / "metrics.jsonl"))
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]

    assert [find_order_entry(save, step).first_sample(step) for step in range(1, 7)] == [0, 8, 48, 56, 64, 72]

    expected = losses_of(2, job(**keys), other, exit_interval=2)
    overrides = {"save": str(other), "load": str(other)}
    run_ranks(2, train_after_skipped_samples, [str(job(**keys))], overrides, 2 * 2 * 8)
    expected = [row["train/lm_loss"] for row in read_json_lines(other / "metrics.jsonl")]
    assert [row["train/lm_loss"] for row in rows] == expected
    one, two = (load_client_state(folder / "global_step6")["consumed_samples"] for folder in (save, other))
    assert one == two

    arguments = [str(job(**keys))], {"save": str(tmp_path / "third"), "max_rewinds": 1}, str(tmp_path / "logs"), 3, 2
    with pytest.raises(AssertionError, match=r"1 steps in a row without an update \(max_skipped_steps 1\)"):
        run_ranks(1, train_with_fault, *arguments)
    assert list(list_checkpoints(tmp_path / "third")) == [2]


def test_without_a_checkpoint_a_diverged_run_ends(job, tmp_path):
    arguments = [str(job(max_skipped_steps=1, eval_iters=0))], {"save": str(tmp_path / "save"), "max_rewinds": 1}
    with pytest.raises(AssertionError, match="training has diverged"):
        run_ranks(1, train_with_fault, *arguments, str(tmp_path / "logs"), 1, 1)
    assert not list_checkpoints(tmp_path / "save")
