"""What is logged of a bad step, which steps end a run, and that a bad gradient changes no weight in any precision or layout."""

import math

import pytest
import torch
from distributed_runs import run_ranks

from neox_code.config.neox import NeoXConfig
from neox_code.errors import NeoXError
from neox_code.files import read_json_lines
from neox_code.training import engine, pretrain
from neox_code.training.loss_guard import DivergedError, LossGuard
from neox_code.training.plain_engine import PlainEngine
from neox_code.training.step import StepResult

GOOD, BAD, NO_NUMBER = StepResult(6.12, 1.0, False), StepResult(6.12, None, True), StepResult(math.nan, None, True)


def guard(**keys) -> LossGuard:
    shape = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128, "lr": 0.5}
    return LossGuard(NeoXConfig.load([], {**shape, "precision": "bfloat16", **keys}))


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr("neox_code.training.loss_guard.log.parent.propagate", True)
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_non_finite_gradient_is_reported_as_the_gradient_and_not_as_the_loss(lines):
    checked = guard()
    for iteration, result in enumerate([GOOD, BAD, GOOD, BAD, BAD], 1):
        checked.check(iteration, result)
    fault = "the gradient norm is not finite (loss 6.1200): the update is skipped"
    assert lines() == [
        f"iteration 2 | {fault} (1 in a row of at most 5)",
        f"iteration 4 | {fault} (1 in a row of at most 5)",
        f"iteration 5 | {fault} (2 in a row of at most 5)",
    ]


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 5), ("bfloat16", 5), ("fp16", 50)])
@pytest.mark.parametrize(("result", "fault"), [(BAD, r"gradient norm is not finite \(loss 6\.1200\)"), (NO_NUMBER, "loss is nan")])
def test_several_faulty_steps_in_a_row_end_the_run_with_the_right_reason(precision, limit, result, fault):
    checked = guard(precision=precision)
    for iteration in range(1, limit):
        checked.check(iteration, result)
    with pytest.raises(NeoXError, match=rf"{fault} at iteration {limit}, {limit} steps in a row"):
        checked.check(limit, result)


@pytest.mark.parametrize(
    ("save", "remedy"),
    [
        ("out", "load: out, iteration: a step before the loss went wrong, and another folder for save"),
        (None, "Start again with a lower lr (0.5)"),
    ],
)
def test_the_remedy_names_the_existing_checkpoints(save, remedy):
    with pytest.raises(NeoXError) as caught:
        guard(save=save, max_skipped_steps=1).check(9, NO_NUMBER)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("spike", [61_244.0, 7.5])
def test_a_loss_spike_is_logged_and_the_noise_of_a_falling_loss_is_not(lines, spike):
    generator = torch.Generator().manual_seed(0)
    falling = [5 * math.exp(-step / 50) + 6 + 0.05 * torch.randn((), generator=generator).item() for step in range(300)]
    checked = guard()
    for iteration, loss in enumerate([*falling, 6.07, spike, 6.01, *falling[-20:]], 1):
        checked.check(iteration, StepResult(loss, 1.0, False))
    (line,) = lines()
    assert line.startswith(f"iteration 302 | loss spike: {spike:.4f}, median of the last 64 losses: 6.0")


def test_a_spike_and_a_first_loss_that_is_not_finite_name_the_documents_of_their_batch(lines):
    checked = guard(save="out")
    for iteration, loss in enumerate([*[6.0] * 20, 9.0, 9.1, math.nan, math.nan], 1):
        checked.check(iteration, StepResult(loss, 1.0, False), lambda iteration=iteration: f"2 documents of step {iteration}")
    named = [line for line in lines() if "documents" in line]
    assert named == [
        f"iteration {step} | its batch has 2 documents of step {step}; all: python tools/which_documents.py out {step}"
        for step in (21, 23)
    ]


class LateEngine(PlainEngine):
    """The engine as on a GPU: the loop reads the results of a step after it has started the next one."""

    def __init__(self, *arguments):
        super().__init__(*arguments, is_whole=True)


def spoil_some_gradients(file, keys, iterations, reads_late=False):
    """Train with NaN in one parameter's gradient at the given iterations (from 1); returns which steps changed weights."""
    changes = []
    if reads_late:
        engine.PlainEngine = LateEngine

    class Spoiled(pretrain.Run):
        def run_one_step(self, batches):
            parameter = list(self.engine.module.parameters())[-1]
            is_bad = self.state.iteration + 1 in iterations
            hook = parameter.register_hook(lambda gradient: torch.full_like(gradient, torch.nan)) if is_bad else None
            before = [value.detach().clone() for value in self.engine.module.parameters()]
            result = super().run_one_step(batches)
            if hook:
                hook.remove()
            changes.append(any(bool((old != new).any()) for old, new in zip(before, self.engine.module.parameters(), strict=True)))
            return result

    pretrain.Run = Spoiled
    state = pretrain.pretrain(NeoXConfig.load([file], keys))
    return changes, state.skipped_steps, state.iteration


@pytest.mark.parametrize("precision", ["fp32", "bfloat16"])
@pytest.mark.parametrize(
    ("ranks", "keys"),
    [
        (1, {"pipe_parallel_size": 0}),
        (1, {"pipe_parallel_size": 1}),
        (2, {"pipe_parallel_size": 2}),
        (2, {"pipe_parallel_size": 0, "zero_optimization": {"stage": 2}}),
    ],
    ids=str,
)
def test_a_step_with_a_non_finite_gradient_is_skipped_and_counted(job, tmp_path, precision, ranks, keys):
    save = tmp_path / "save"
    file = job(precision=precision, **keys)
    results = run_ranks(ranks, spoil_some_gradients, file, {"save": str(save)}, [2, 5])
    assert results == [([True, False, True, True, False, True], 2, 6)] * ranks
    rows = [row for row in read_json_lines(save / "metrics.jsonl") if "train/lm_loss" in row]
    assert [row["train/skipped_steps"] for row in rows] == [0, 1, 1, 1, 2, 2]
    assert ["train/grad_norm" in row for row in rows] == [True, False, True, True, False, True]
    assert all(math.isfinite(value) for row in rows for value in row.values() if not isinstance(value, str))
    assert (save / "global_step6").is_dir()


def test_results_that_are_read_one_step_late_give_the_same_run(job, tmp_path):
    """A skipped step delays the learning rates by one, whether the host knows of it yet or not."""
    runs = []
    for reads_late in (False, True):
        save = tmp_path / str(reads_late)
        results = run_ranks(1, spoil_some_gradients, job(), {"save": str(save), "log_interval": 3}, [2, 5], reads_late)
        assert results == [([True, False, True, True, False, True], 2, 6)]
        (file,) = (save / "global_step6").glob("*optim_states.pt")
        masters = torch.load(file, weights_only=True)["optimizer_state_dict"]["single_partition_of_fp32_groups"]
        rows = [row for row in read_json_lines(save / "metrics.jsonl") if "train/lm_loss" in row]
        runs.append((masters, [(row["iteration"], row["train/lm_loss"], row["train/skipped_steps"]) for row in rows]))
    for one, other in zip(runs[0][0], runs[1][0], strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)
    for one, other in zip(runs[0][1], runs[1][1], strict=True):
        assert other == pytest.approx(one, abs=1e-5)


def test_a_long_spike_ends_the_run_and_no_checkpoint_is_written_in_it(lines):
    checked = guard(max_spike_steps=3)
    for iteration in range(1, 41):
        checked.check(iteration, StepResult(3.0 + 0.01 * (iteration % 5), 1.0, False))
    checked.check(41, StepResult(5.0, 1.0, False))
    assert not checked.is_safe_to_save
    checked.check(42, StepResult(3.0, 1.0, False))
    assert checked.is_safe_to_save
    for iteration in (43, 44):
        checked.check(iteration, StepResult(5.0, 1.0, False))
    with pytest.raises(DivergedError, match=r"loss spike at iteration 45: 5\.0000, .* 3 steps in a row \(max_spike_steps 3\)"):
        checked.check(45, StepResult(5.0, 1.0, False))
    assert checked.num_spike_steps == 4
    assert [line.split(":")[0] for line in lines()] == ["iteration 41 | loss spike", "iteration 43 | loss spike"]
