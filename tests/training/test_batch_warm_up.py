"""The warm-up of the batch size: Megatron-LM's sizes, equal losses at every layout and after a resume, and data_order.jsonl."""

import pytest
from distributed_runs import losses_of

from neox_code.config.derive import compute_batch_size, count_samples, list_batch_sizes
from neox_code.config.neox import NeoXConfig
from neox_code.data.order_log import find_order_entry
from neox_code.errors import ConfigError
from neox_code.training.trackers import read_metrics

RAMP = {"rampup_batch_size": [2, 2, 9], "train_batch_size": 8, "train_micro_batch_size_per_gpu": 1}
SAMPLES = [2, 4, 8, 14, 22, 30]
"""Numbers of samples after each step: 2, 4 and 6 are the sizes of the steps that begin in the first, second and third 3 samples."""


def test_sizes_follow_the_rule_of_megatron():
    def compute_by_megatron(consumed: int, start: int, increment: int, samples: int, full: int) -> int:
        per_increment = samples / ((full - start) / increment)
        return full if consumed > samples else min(full, start + int(consumed / per_increment) * increment)

    for consumed in range(0, 700, 7):
        assert compute_batch_size(consumed, 96, (32, 16, 640)) == compute_by_megatron(consumed, 32, 16, 640, 96)
    assert list_batch_sizes(96, (32, 16, 640)) == [32, 48, 64, 80, 96]
    assert count_samples(6, 8, (2, 2, 9)) == SAMPLES[-1] and count_samples(1000, 8, (2, 2, 9)) == SAMPLES[-1] + 994 * 8


def test_a_warm_up_trains_alike_at_every_layout_and_resumes(job, tmp_path):
    file = job(**RAMP, eval_iters=1)
    expected = losses_of(1, file, tmp_path / "one")
    consumed = [row["train/consumed_samples"] for row in read_metrics(tmp_path / "one" / "metrics.jsonl") if "train/lm_loss" in row]
    assert consumed == SAMPLES
    small = job(train_batch_size=2, train_micro_batch_size_per_gpu=1, eval_iters=0)
    assert losses_of(1, small, tmp_path / "small")[0] == pytest.approx(expected[0], abs=1e-6)
    save = tmp_path / "moving"
    for ranks, layout in ((2, {"pipe_parallel_size": 0}), (2, {"pipe_parallel_size": 2}), (2, {"model_parallel_size": 2})):
        found = losses_of(ranks, job(**RAMP, **layout, eval_iters=1), save, load=str(save), exit_interval=2)
    assert found == pytest.approx(expected, abs=5e-6)
    for run in (save, tmp_path / "one"):
        entries = [find_order_entry(run, step) for step in range(1, 7)]
        assert [entry.first_sample(step) for step, entry in enumerate(entries, 1)] == [0, *SAMPLES[:-1]]
        assert [entry.train_batch_size for entry in entries] == [2, 2, 4, 6, 8, 8]


@pytest.mark.parametrize("precision", ["bfloat16", "fp32"])
def test_a_pipeline_with_a_warm_up_resumes_to_the_bit(job, tmp_path, precision):
    file, save = job(**RAMP, pipe_parallel_size=2, precision=precision, eval_iters=0), tmp_path / "halves"
    whole = losses_of(2, file, tmp_path / "whole")
    losses_of(2, file, save, load=str(save), exit_interval=3)
    assert losses_of(2, file, save, load=str(save)) == whole


@pytest.mark.parametrize(
    ("ramp", "ranks", "message"),
    [([3, 2, 9], 1, "divides the difference"), ([8, 2, 9], 1, "below train_batch_size 8"), ([2, 2, 9], 4, r"1 \* 4 = 4")],
)
def test_sizes_that_no_step_can_have_are_refused(job, ramp, ranks, message):
    config = NeoXConfig.load([job(**RAMP | {"rampup_batch_size": ramp})])
    with pytest.raises(ConfigError, match=message):
        config.batch_sizes(ranks)
    with pytest.raises(ConfigError, match="exclude each other"):
        NeoXConfig.load([job(**RAMP, zero_optimization={"stage": 2}, pipe_parallel_size=0)])
