"""Learning rates against a scheduler object that counts as GPT-NeoX's does, and past the end of their decay."""

import itertools
import math

import pytest
import torch
from distributed_runs import losses_of, run_ranks, train
from torch.optim.lr_scheduler import LambdaLR

from neox_code.commands.branch import make_train_arguments
from neox_code.config.command_line import parse_command_line
from neox_code.config.optimizer import OptimizerConfig
from neox_code.errors import CheckpointError, ConfigError
from neox_code.files import read_json_lines
from neox_code.training.run_report import write_report
from neox_code.training.schedule import compute_schedule_position, compute_scheduled_rate
from neox_code.training.state import TrainingState

STYLES = ("constant", "linear", "cosine", "exponential")


def annealing_factor(style: str, warmup: float, end: int, floor: float, count: int) -> float:
    """Return the rate of AnnealingLR in GPT-NeoX's learning_rates.py for a peak of 1, after `count` calls of its `step`."""
    if warmup > 0 and count <= warmup:
        return max(1, count) / warmup
    done, length = count - warmup, end - warmup
    factor = {
        "constant": 1.0,
        "linear": (length - done) / length,
        "cosine": floor + (1 - floor) / 2 * (1 + math.cos(math.pi * done / length)),
        "exponential": 0.5 ** (0.693 / math.log(2) * done / length),
    }[style]
    return max(factor, floor)


def annealed(section: OptimizerConfig, steps: int, train_iters: int) -> list[float]:
    """Return the rate of each step of a run: torch's scheduler, stepped after every update as DeepSpeed steps GPT-NeoX's."""
    end = section.lr_decay_iters or max(1, int(train_iters * (section.lr_decay_fraction or 1)))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=section.lr)
    floor, warmup = section.min_lr / section.lr, section.warmup * end
    scheduler = LambdaLR(optimizer, lambda count: annealing_factor(section.lr_decay_style, warmup, end, floor, count))
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "keys",
    [
        {"warmup": 0.1},
        {"warmup": 0.0, "min_lr": 1e-5},
        {"warmup": 0.025, "min_lr": 1e-5},
        {"warmup": 0.33, "lr_decay_fraction": 0.7},
        {"warmup": 0.05, "lr_decay_iters": 60},
        {"warmup": 1.0},
    ],
)
def test_every_step_has_the_rate_of_gpt_neox(style, keys):
    section = OptimizerConfig(lr=6e-4, lr_decay_style=style, **keys)
    end = section.lr_decay_iters or int(100 * (section.lr_decay_fraction or 1))
    rates = [compute_scheduled_rate(updates, section, 100) for updates in range(end)]
    assert rates == pytest.approx(annealed(section, end, 100), rel=1e-12)


@pytest.mark.parametrize("style", STYLES)
def test_the_rate_never_rises_after_its_minimum(style):
    section = OptimizerConfig(lr=6e-4, min_lr=6e-5, lr_decay_style=style, lr_decay_iters=100, warmup=0.1)
    rates = [compute_scheduled_rate(updates, section, 400) for updates in range(10, 400)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
    ends = {"constant": 6e-4, "exponential": pytest.approx(6e-5, rel=1e-3)}
    assert rates[-1] == ends.get(style, 6e-5)


def test_the_last_step_of_a_linear_decay_is_not_lost():
    section = OptimizerConfig(lr=1.0, lr_decay_style="linear", warmup=0)
    assert [compute_scheduled_rate(updates, section, 4) for updates in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_a_warm_up_shorter_than_one_step_never_exceeds_the_peak():
    section = OptimizerConfig(lr=1.0, lr_decay_style="linear", warmup=0.01)
    assert max(compute_scheduled_rate(updates, section, 10) for updates in range(10)) == 1.0


def test_a_skipped_step_does_not_advance_the_rate():
    state = TrainingState()
    state.advance(8, 512)
    state.advance(8, 512, is_skipped=True)
    expected = TrainingState(iteration=2, consumed_samples=16, consumed_tokens=1024, skipped_steps=1)
    assert TrainingState.from_dict(state.as_dict()) == expected


def test_a_resumed_run_has_the_rates_of_gpt_neox(job, tmp_path):
    save = tmp_path / "save"
    file = job(lr_decay_style="cosine", min_lr=1e-4, warmup=0.4, train_iters=8)
    for stop in ({"exit_interval": 3}, {}):
        run_ranks(1, train, [str(file)], {"save": str(save), "load": str(save), **stop})
    rates = [row["train/learning_rate"] for row in read_json_lines(save / "metrics.jsonl") if "train/learning_rate" in row]
    section = OptimizerConfig(lr=0.003, lr_decay_style="cosine", min_lr=1e-4, warmup=0.4)
    assert rates == pytest.approx(annealed(section, 8, 8), rel=1e-12)


def test_wsd_keeps_the_peak_and_falls_linearly_in_the_last_three_tenths():
    section = OptimizerConfig(lr=1.0, min_lr=0.1, lr_decay_style="wsd", warmup=0.1)
    rates = [compute_scheduled_rate(position, section, 110) for position in (11, 50, 80, 80.3, 95.15, 110, 200)]
    assert rates == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.55, 0.1, 0.1])


def test_wsd_falls_in_the_last_share_that_is_configured():
    section = OptimizerConfig(lr=1.0, lr_decay_style="wsd", warmup=0, lr_decay_share=0.1)
    rates = [compute_scheduled_rate(position, section, 100) for position in (1, 90, 95, 100)]
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.0])


def test_branches_of_a_trunk_decay_from_its_weights_and_samples_and_one_page_compares_them(job, tmp_path):
    """A branch of the trunk's own decay is the trunk to the bit; a shorter one leaves it and follows a line to 0."""
    common = {"warmup": 0.1, "train_iters": 10, "lr_decay_style": "wsd", "lr_decay_share": 4 / 9, "eval_iters": 0}
    trunk = tmp_path / "trunk"
    losses = losses_of(1, job(**common, checkpoint_factor=2, optimizer=MUON), trunk)
    for steps, name in ((4, "same"), (2, "short")):
        words = make_train_arguments([str(trunk / "global_step6"), "--iterations", str(steps), "--save", str(tmp_path / name)])
        line = parse_command_line(words, "", "train")
        assert run_ranks(1, train, list(map(str, line.config_paths)), dict(line.overrides)) == [6 + steps]
    read = {name: list(read_json_lines(tmp_path / name / "metrics.jsonl")) for name in ("trunk", "same", "short")}
    found = {name: [row["train/lm_loss"] for row in rows if "train/lm_loss" in row] for name, rows in read.items()}
    assert found["same"] == losses[6:] and found["short"][0] == losses[6] and len(found["short"]) == 2
    rates = [row["train/learning_rate"] for row in read["short"] if "train/learning_rate" in row]
    assert rates == pytest.approx([0.003, 0.0015])
    assert write_report([tmp_path / name for name in read], tmp_path / "page.html") == 3


def test_a_branch_of_a_checkpoint_whose_rate_has_fallen_and_in_the_trunks_folder_is_refused(job, tmp_path):
    trunk = tmp_path / "trunk"
    losses_of(1, job(lr_decay_style="linear", eval_iters=0, train_iters=2, lr_decay_iters=4), trunk)
    with pytest.raises(ConfigError, match=r"is at learning rate 0\.0\d+, not at lr 0\.003"):
        make_train_arguments([str(trunk), "--iterations", "4", "--save", str(tmp_path / "branch")])
    with pytest.raises(ConfigError, match="is the folder of the trunk"):
        make_train_arguments([str(trunk), "--iterations", "4", "--save", str(trunk)])
    with pytest.raises(CheckpointError, match="nowhere"):
        make_train_arguments([str(tmp_path / "nowhere"), "--iterations", "4", "--save", str(trunk)])


MUON = {"type": "muon", "params": {"lr": 0.003, "muon_lr": 0.01, "betas": [0.9, 0.95]}}


def test_a_slow_machine_decays_by_the_clock_and_a_fast_one_by_its_steps():
    """Half of the time gone after 5 of 1,000 steps is half of the schedule; so is half of the steps in no time."""
    section = OptimizerConfig(lr=1.0, lr_decay_style="linear", warmup=0)
    slow, fast = (compute_schedule_position(updates, 1000, seconds, 60.0) for updates, seconds in ((5, 30.0), (500, 1.0)))
    assert compute_scheduled_rate(slow, section, 1000) == compute_scheduled_rate(fast, section, 1000) == pytest.approx(0.5)
