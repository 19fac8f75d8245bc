"""What a run says and writes, and when it stops."""

import gc
import math
import shutil
import weakref

import pytest
from distributed_runs import losses_of, run_ranks, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neox_code.files import read_json_lines
from neox_code.training.loop import collect_garbage_by_hand


def test_the_log_tensorboard_and_the_metrics_file_have_the_same_figures(job, tmp_path):
    overrides = {"save": str(tmp_path / "save"), "tensorboard_dir": str(tmp_path / "board")}
    run_ranks(1, train, [str(job())], overrides, str(tmp_path / "logs"))
    rows = [row for row in read_json_lines(tmp_path / "save" / "metrics.jsonl") if "train/lm_loss" in row]
    (board,) = (tmp_path / "board").iterdir()
    events = EventAccumulator(str(board)).Reload()
    assert [event.value for event in events.Scalars("train/lm_loss")] == pytest.approx(
        [row["train/lm_loss"] for row in rows], rel=1e-6
    )
    assert [event.step for event in events.Scalars("runtime/tokens_per_sec")] == [1, 2, 3, 4, 5, 6]
    (log,) = (tmp_path / "logs").iterdir()
    lines = [
        line.split(" ", 2)[2].split(" | ") for line in log.read_text().splitlines() if " iteration " in line and " lr " in line
    ]
    assert [line[:2] for line in lines] == [[f"iteration {row['iteration']}", f"loss {row['train/lm_loss']:.4f}"] for row in rows]
    assert [len(line) for line in lines] == [5] * 6


def test_a_resume_replaces_the_metrics_that_the_killed_run_wrote_after_its_checkpoint(job, tmp_path):
    save = tmp_path / "save"
    expected = losses_of(1, job(), save, extra_save_iters=[3])
    shutil.rmtree(save / "global_step6")
    (save / "latest").write_text("global_step3\n")
    assert losses_of(1, job(), save, load=str(save)) == expected


def test_a_diverged_run_stops_before_it_saves(job, tmp_path):
    save = tmp_path / "save"
    with pytest.raises(AssertionError, match=r"the loss is nan at iteration \d, 3 steps in a row .*training has diverged"):
        losses_of(1, job(optimizer={"type": "Adam", "params": {"lr": 1e30}}), save, max_skipped_steps=3, extra_save_iters=[2, 3, 4])
    assert not list(save.glob("global_step*"))


def test_a_run_that_diverges_in_its_last_step_saves_nothing(job, tmp_path):
    save = tmp_path / "save"
    with pytest.raises(AssertionError, match="the loss is not finite at the last iteration"):
        losses_of(1, job(optimizer={"type": "Adam", "params": {"lr": 1e30}}), save, train_iters=3)
    assert not list(save.glob("global_step*"))


def test_only_the_last_checkpoints_are_kept(job, tmp_path):
    losses_of(1, job(checkpoint_factor=1, keep_last_n_checkpoints=2), tmp_path / "save")
    assert sorted(path.name for path in (tmp_path / "save").glob("global_step*")) == ["global_step5", "global_step6"]


def test_the_test_data_is_read_once_at_the_end(job, tmp_path):
    losses_of(1, job(), tmp_path / "halves", exit_interval=3)
    losses_of(1, job(), tmp_path / "halves", load=str(tmp_path / "halves"))
    rows = list(read_json_lines(tmp_path / "halves" / "metrics.jsonl"))
    assert [row["iteration"] for row in rows if "test/lm_loss" in row] == [6]
    assert "test/lm_loss" in rows[-1]
    assert rows[-1]["test/lm_loss_ppl"] == pytest.approx(math.exp(rows[-1]["test/lm_loss"]))


@pytest.mark.parametrize("ranks", [1, 2])
def test_training_ends_by_the_clock_at_the_lowest_rate_and_a_restart_adds_no_time(job, tmp_path, ranks):
    """A run of 4 s is stopped by exit_interval and resumed: both parts share the 4 s."""
    file = job(train_iters=2000, lr_decay_style="wsd", min_lr=0.0, eval_iters=0, warmup=0.01)
    save = tmp_path / "save"
    losses_of(ranks, file, save, train_seconds=4.0, exit_interval=3)
    begin = {row["iteration"]: row for row in read_json_lines(save / "metrics.jsonl")}
    assert list(begin) == [1, 2, 3]
    losses_of(ranks, file, save, train_seconds=4.0, load=str(save))
    rows = [row for row in read_json_lines(save / "metrics.jsonl") if "train/learning_rate" in row]
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    assert 3 < len(rows) < 2000
    rates = [row["train/learning_rate"] for row in rows]
    assert max(rates) == pytest.approx(0.003)
    share_of_the_last_step = rows[-1]["runtime/iteration_time"] / 4.0
    assert rates[-1] <= 1.2 * 0.003 * share_of_the_last_step / 0.3
    assert rates[rates.index(max(rates)) :] == sorted(rates[rates.index(max(rates)) :], reverse=True)
    resumed = sum(row["runtime/iteration_time"] for row in rows[3:])
    assert resumed < 4.0 + 5 * max(row["runtime/iteration_time"] for row in rows[3:])


class Cycle:
    def __init__(self):
        self.itself = self


def test_garbage_is_collected_every_interval_and_by_python_after_the_loop():
    with collect_garbage_by_hand(3) as maybe_collect:
        assert not gc.isenabled()
        garbage = weakref.ref(Cycle())
        for iteration in (1, 2):
            maybe_collect(iteration)
            assert garbage() is not None
        maybe_collect(3)
        assert garbage() is None
    assert gc.isenabled() and not gc.get_freeze_count()
    with collect_garbage_by_hand(0):
        assert gc.isenabled()


def test_validation_reads_the_same_samples_every_time(job, tmp_path):
    frozen = job(optimizer={"type": "Adam", "params": {"lr": 1e-30}}, weight_decay=0.0, eval_interval=2)
    losses_of(1, frozen, tmp_path / "save")
    losses = [
        row["validation/lm_loss"] for row in read_json_lines(tmp_path / "save" / "metrics.jsonl") if "validation/lm_loss" in row
    ]
    assert len(losses) == 3
    assert len(set(losses)) == 1
