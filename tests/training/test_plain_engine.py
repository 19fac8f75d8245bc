"""The engine without DeepSpeed against DeepSpeed's, and against a plain loop with torch's optimizer."""

import random
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from distributed_runs import losses_of, run_ranks
from torch.utils._python_dispatch import TorchDispatchMode

from neox_code.benchmarks import timed_steps
from neox_code.benchmarks.timed_steps import build_engine_for_steps, make_random_tokens
from neox_code.config.neox import NeoXConfig
from neox_code.parallel.startup import startup
from neox_code.training import engine
from neox_code.training.engine import PlainModel
from neox_code.training.loss_scale import LossScale
from neox_code.training.plain_engine import PlainEngine

DEEPSPEED = {"gradient_predivide_factor": 1.0}
"""A setting that has no effect besides the choice of DeepSpeed's engine."""
VOCABULARY = 512


@pytest.mark.parametrize(
    ("keys", "tolerance"),
    [
        ({"pipe_parallel_size": 1, "precision": "fp32"}, 5e-6),
        ({"pipe_parallel_size": 0, "precision": "bfloat16", "no_weight_tying": False}, 3e-3),
    ],
    ids=["fp32", "bf16"],
)
def test_both_engines_train_alike_and_resume_from_each_others_checkpoints(job, tmp_path, keys, tolerance):
    """Two data ranks, with clipping; the folder of one engine is resumed by the other at the same layout, without resharding."""
    keys = keys | {"train_micro_batch_size_per_gpu": 2, "eval_iters": 0}
    plain, deepspeed = job(**keys), job(**keys, **DEEPSPEED)
    expected = losses_of(2, plain, tmp_path / "plain")
    assert losses_of(2, deepspeed, tmp_path / "deepspeed") == pytest.approx(expected, abs=tolerance)
    for name, first, then in (("there", plain, deepspeed), ("back", deepspeed, plain)):
        save = tmp_path / name
        losses_of(2, first, save, exit_interval=3)
        assert losses_of(2, then, save, load=str(save)) == pytest.approx(expected, abs=tolerance)


def make_engine(config, grid, is_whole):
    """Return the engine with the operations of a GPU or of a CPU, in a process of its own."""
    engine.PlainEngine = partial(PlainEngine, is_whole=is_whole)
    return build_engine_for_steps(config, VOCABULARY, grid)


def train_by_engine(file, is_whole, count):
    """Return the figures of some steps and the last weights of this rank."""
    config = NeoXConfig.load([file])
    with startup(config.parallelism) as grid:
        own = make_engine(config, grid, is_whole)
        own.set_rate(0.01, 0.01)
        figures = []
        for step in range(count):
            total = torch.zeros(())
            for part in range(own.gradient_accumulation_steps()):
                tokens = make_random_tokens(2, 32, VOCABULARY, grid.device).roll(step + 7 * part + 31 * grid.data_rank)
                batch = (tokens[:, :-1], (tokens[:, 1:], torch.full((2, 32), 1 / 64)))
                loss = own(batch)
                own.backward(loss)
                total += loss.detach()
            figures.append(own.step(total).tolist())
        return figures, {name: value.detach().float() for name, value in own.module.named_parameters()}


OPTIMIZERS = {
    "adam": {"type": "Adam", "params": {"lr": 0.01}},
    "sgd": {"type": "SGD", "params": {"lr": 0.01, "momentum": 0.9}},
    "lion": {"type": "Lion", "params": {"lr": 0.01}},
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_large_operations_of_a_gpu_give_the_weights_of_the_small_ones_of_a_cpu(job, kind):
    """bf16 with two micro batches and two data ranks."""
    file = job(optimizer=OPTIMIZERS[kind], precision="bfloat16", train_batch_size=8, train_micro_batch_size_per_gpu=2)
    (small, weights), (other, same) = run_ranks(2, train_by_engine, file, False, 3)
    (large, others), _ = run_ranks(2, train_by_engine, file, True, 3)
    assert small == other and all(torch.equal(weights[name], same[name]) for name in weights)
    for one, two in zip(small, large, strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    changes = torch.cat([(others[name] - value).flatten() for name, value in weights.items()])
    assert changes.abs().mean() < 1e-5  # a gradient near 0 may get another sign, and with Adam a whole step


class CountLaunches(TorchDispatchMode):
    """The names of all operations that a device would run, views left out."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and func.overloadpacket._qualified_op_name not in ("aten::detach", "aten::_unsafe_view"):
            self.names.append(func.overloadpacket._qualified_op_name)
        return func(*args, **(kwargs or {}))


READS = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"}
"""Operations for which the host waits for the device."""


def count_launches(file):
    """Return the operations of a step outside of forward and backward pass, for two micro batches, as a GPU would run it."""
    config = NeoXConfig.load([file])
    with startup(config.parallelism) as grid:
        own = make_engine(config, grid, is_whole=True)
        tokens = make_random_tokens(2, 32, VOCABULARY, grid.device)
        batch = (tokens[:, :-1], (tokens[:, 1:], torch.full((2, 32), 1 / 64)))
        names, alone = [], []
        for counted in (False, True):
            for _ in range(2):
                with CountLaunches() as launches:
                    loss = own(batch)
                with CountLaunches() as backward:
                    own.backward(loss)
                names += [*launches.names, *backward.names] if counted else []
            with CountLaunches() as step:
                own.set_rate(0.01, 0.02)
                own.step(loss.detach())
            names += step.names if counted else []
        names_of = [name for name, _ in own.module.named_parameters()]
        weights = [value.detach().requires_grad_() for value in own.module.parameters()]
        for _ in range(2):
            with CountLaunches() as launches:
                loss = torch.func.functional_call(own.module, dict(zip(names_of, weights, strict=True)), (batch,))
                torch.autograd.grad(loss, weights)
            alone += launches.names
        return names, alone


@pytest.mark.parametrize("precision", ["bfloat16", "fp32"])
def test_a_step_has_at_most_100_launches_outside_of_the_model_and_no_read_of_the_host(job, precision):
    ((names, alone),) = run_ranks(1, count_launches, job(precision=precision, num_layers=6, train_batch_size=4))
    assert not READS & set(names)
    assert len(alone) > 100
    assert len(names) - len(alone) <= 100
    assert names.count("aten::_foreach_norm") == 1


@pytest.mark.parametrize("settings", [{}, {"consecutive_hysteresis": True}, {"hysteresis": 1, "min_loss_scale": 1024}], ids=str)
def test_the_loss_scale_changes_as_that_of_deepspeed(settings, monkeypatch):
    monkeypatch.setattr("deepspeed.runtime.fp16.loss_scaler.dist.get_rank", lambda: 1)
    given = {"loss_scale_window": 5, "hysteresis": 2, "initial_scale_power": 14, **settings}
    peer = DynamicLossScaler(
        2.0**14, 5, given.get("min_loss_scale", 1), given["hysteresis"], bool(given.get("consecutive_hysteresis")), False
    )
    scale = LossScale(given, torch.device("cpu"))
    draw = random.Random(3)
    for step in range(300):
        is_over = draw.random() < (0.5 if step < 40 else 0.05)
        peer.update_scale(is_over)
        scale.update(torch.tensor(float(is_over)))
        assert float(scale.scale) == peer.cur_scale
        assert float(scale.state["cur_hysteresis"]) == peer.cur_hysteresis
    again = LossScale(given, torch.device("cpu"))
    again.load(vars(SimpleNamespace(**scale.as_dict())))
    assert again.as_dict() == scale.as_dict()


def train_in_fp16(file):
    """Return the figures of fp16 steps on the same batch and the loss scale of each, and the figures of the first step in fp32."""
    found = []
    timed_steps.build_module = lambda layers, loss, config, grid: PlainModel(layers, loss, recompute=False)
    for precision in ("fp16", "fp32"):
        config = NeoXConfig.load([file], {"precision": precision, "train_batch_size": 4, "train_micro_batch_size_per_gpu": 2})
        with startup(config.parallelism) as grid:
            own = make_engine(config, grid, is_whole=True)
            own.set_rate(0.001, 0.001)
            tokens = make_random_tokens(2, 32, VOCABULARY, grid.device)
            batch = (tokens[:, :-1], (tokens[:, 1:], torch.full((2, 32), 1 / 64)))
            for _ in range(8 if precision == "fp16" else 1):
                scale = None if own.loss_scale is None else float(own.loss_scale.scale)
                losses = []
                for _ in range(2):
                    losses.append(own(batch))
                    own.backward(losses[-1])
                found.append((scale, own.step(sum(losses).detach()).tolist()))
    return found


def test_fp16_skips_steps_until_its_loss_scale_fits_and_then_has_the_gradient_of_fp32(job):
    """On the CPU, whose fp16 is slow but has the same range as a GPU's."""
    fp16 = {"initial_scale_power": 20, "hysteresis": 1}
    (figures,) = run_ranks(1, train_in_fp16, job(fp16=fp16))
    *halved, (_, (loss, norm, _)) = figures
    skipped = [bool(result[2]) for _, result in halved]
    number = skipped.index(False)
    assert number > 0 and not any(skipped[number:])
    assert [scale for scale, _ in halved] == [2.0 ** (20 - min(step, number)) for step in range(len(halved))]
    first = halved[number][1]
    assert first[0] == pytest.approx(loss, rel=1e-3)
    assert first[1] == pytest.approx(norm, rel=1e-2)
    assert halved[-1][1][0] < first[0]
