"""Loss and gradient of a batch do not depend on its division into micro batches, data ranks and stages; summed in fp32."""

import pytest
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param
from distributed_runs import losses_of, run_ranks
from torch.nn import functional as F

from neox_code.benchmarks.timed_steps import build_engine_for_steps
from neox_code.config.neox import NeoXConfig
from neox_code.files import read_json_lines
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.parallel.startup import startup
from neox_code.training.plain_engine import PlainEngine
from neox_code.training.step import choose_step_functions

VOCABULARY, LENGTH, SAMPLES = 512, 64, 8


def samples(count, share):
    """Return tokens [count, LENGTH + 1] and a mask [count, LENGTH] whose rows keep between none and `share` of their positions."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, VOCABULARY, (count, LENGTH + 1), generator=generator)
    kept = share * torch.linspace(0, 1, count)[:, None]
    return tokens, (torch.rand(count, LENGTH, generator=generator) < kept).float()


def weights_of(engine):
    """Return the fp32 master weights of this stage by their names in the pipeline."""
    if isinstance(engine, PlainEngine):
        for group in engine.groups:
            parts = [torch.empty_like(group.master) for _ in range(engine.grid.data_size)]
            dist.all_gather(parts, group.master, group=engine.grid.data_group)
            for parameter, offset in group.offsets.items():
                parameter.master = torch.cat(parts)[offset:][: parameter.numel()].view(parameter.shape)
        return {name.removeprefix("sequential."): value.master for name, value in engine.module.named_parameters()}
    return {
        name.removeprefix("sequential.").replace("tied_modules.embed.", "0."): safe_get_full_fp32_param(value).clone()
        for name, value in engine.module.named_parameters()
    }


def step_by_sgd(file, keys, count, share):
    """Make one step of SGD at rate 1: the weights' change is the gradient. Returns loss, validation loss, weights and gradients."""
    config = NeoXConfig.load([file], {"train_batch_size": count, "gradient_clipping": 0.0, "weight_decay": 0.0, **keys})
    with startup(config.parallelism) as grid:
        engine = build_engine_for_steps(config, VOCABULARY, grid)
        size = engine.train_micro_batch_size_per_gpu()
        tokens, mask = samples(count, share)
        own = [
            (tokens[rows, :-1], (tokens[rows, 1:], mask[rows] if share < 2 else None))
            for part, rows in enumerate(torch.arange(count).split(size))
            if part % grid.data_size == grid.data_rank
        ]
        step, evaluate = choose_step_functions(engine)
        valid, counted = evaluate(engine, iter(own), grid)
        assert counted == mask.sum() if share < 2 else count * LENGTH
        before = weights_of(engine)
        loss = step(engine, iter(own), grid)().loss
        after = weights_of(engine)
        return loss, valid, before, {name: before[name] - after[name] for name in before}


SGD = {"optimizer": {"type": "SGD", "params": {"lr": 1.0}}, "warmup": 0.0}


def norm(gradients):
    return torch.stack([value.double().square().sum() for value in gradients]).sum().sqrt()


def relative_error(gradients, expected):
    return float(norm([gradients[name].double() - expected[name].double() for name in expected]) / norm(expected.values()))


@pytest.fixture(scope="module")
def whole() -> dict:
    """The step of one process over one micro batch, by precision; filled by the first test that needs it."""
    return {}


DIVISIONS = [
    (1, {"train_micro_batch_size_per_gpu": 1}),
    (1, {"train_micro_batch_size_per_gpu": 4}),
    (1, {"train_micro_batch_size_per_gpu": 2, "pipe_parallel_size": 0}),
    (2, {"train_micro_batch_size_per_gpu": 1}),
    (2, {"train_micro_batch_size_per_gpu": 2, "pipe_parallel_size": 0}),
    (2, {"train_micro_batch_size_per_gpu": 2, "pipe_parallel_size": 0, "zero_optimization": {"stage": 2}}),
    (2, {"train_micro_batch_size_per_gpu": 2, "pipe_parallel_size": 0, "zero_optimization": {"stage": 3}}),
    (2, {"train_micro_batch_size_per_gpu": 1, "pipe_parallel_size": 2}),
    (2, {"train_micro_batch_size_per_gpu": 2, "model_parallel_size": 2}),
    (3, {"train_micro_batch_size_per_gpu": 4, "pipe_parallel_size": 3, "num_layers": 3}),
    (4, {"train_micro_batch_size_per_gpu": 1, "pipe_parallel_size": 2}),
]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-6), ("bfloat16", 6e-3)])
@pytest.mark.parametrize(("ranks", "keys"), DIVISIONS, ids=str)
def test_loss_and_gradient_of_a_masked_batch_do_not_depend_on_its_division(job, whole, precision, tolerance, ranks, keys):
    shape = {"num_layers": keys.get("num_layers", 2), "precision": precision}
    if str(shape) not in whole:
        file = job(**SGD, **shape, train_micro_batch_size_per_gpu=SAMPLES)
        whole[str(shape)] = run_ranks(1, step_by_sgd, file, {}, SAMPLES, 1.0)[0]
    loss, valid, _, gradients = whole[str(shape)]
    results = run_ranks(ranks, step_by_sgd, job(**SGD, **(shape | keys)), {}, SAMPLES, 1.0)
    for other_loss, other_valid, _, _ in results:
        assert other_loss == pytest.approx(loss, abs=1e-6 if precision == "fp32" else 1e-3)
        assert other_valid == pytest.approx(valid, abs=1e-6 if precision == "fp32" else 1e-3)
    if "model_parallel_size" not in keys:
        divided = {name: value for result in results for name, value in result[3].items()}
        assert divided.keys() == gradients.keys()
        assert relative_error(divided, gradients) < tolerance


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_batch_without_masks_has_the_mean_of_all_tokens(job, ranks):
    keys = {**SGD, "train_micro_batch_size_per_gpu": 2, "no_weight_tying": False}
    (loss, valid, weights, gradients), *_ = run_ranks(ranks, step_by_sgd, job(**keys), {}, SAMPLES, 2.0)
    (expected, expected_gradients) = by_autograd(job(**keys), weights, torch.float32, SAMPLES, 1)
    assert loss == valid == pytest.approx(expected, abs=1e-6)
    assert relative_error(gradients, expected_gradients) < 2e-6


def by_autograd(file, weights, dtype, count, micro_batches):
    """Return torch's mean cross entropy of the samples and its gradients, those of micro batches summed in fp64."""
    config = NeoXConfig.load([file], {})
    model = GPT(build_layers(config.model, VOCABULARY, VOCABULARY, single_process_grid(), dtype, 0))
    own = {f"sequential.{name}": value for name, value in weights.items()}
    assert not model.load_state_dict(own, strict=False).unexpected_keys
    total, sums = 0.0, dict.fromkeys(weights, 0.0)
    for tokens in samples(count, 2.0)[0].chunk(micro_batches):
        loss = F.cross_entropy(model(tokens[:, :-1]).float().flatten(0, 1), tokens[:, 1:].flatten()) / micro_batches
        model.zero_grad()
        loss.backward()
        total += loss.item()
        for name, value in model.named_parameters():
            sums[name.removeprefix("sequential.")] += value.grad.double()
    return total, sums


@pytest.mark.parametrize(
    "keys",
    [
        {"pipe_parallel_size": 0},
        {"pipe_parallel_size": 1},
        {"pipe_parallel_size": 1, "no_weight_tying": False},
        {"pipe_parallel_size": 2, "no_weight_tying": False},
        {"pipe_parallel_size": 0, "zero_optimization": {"stage": 2}},
        {"pipe_parallel_size": 0, "zero_optimization": {"stage": 3}},
    ],
    ids=str,
)
def test_64_micro_batches_in_bf16_are_summed_in_fp32(job, keys):
    """In bf16 the error of the sum is 0.009; a tied embedding rounds each of its two gradients."""
    file = job(**SGD, precision="bfloat16", train_micro_batch_size_per_gpu=1, **keys)
    results = run_ranks(max(1, keys["pipe_parallel_size"]), step_by_sgd, file, {}, 64, 2.0)
    weights, gradients = ({name: value for result in results for name, value in result[part].items()} for part in (2, 3))
    _, expected = by_autograd(file, weights, torch.bfloat16, 64, 64)
    assert relative_error(gradients, expected) < 0.002


def test_a_batch_with_only_masked_tokens_changes_no_weight(job):
    keys = {**SGD, "precision": "bfloat16", "train_micro_batch_size_per_gpu": 2}
    (loss, valid, _, gradients), *_ = run_ranks(1, step_by_sgd, job(**keys), {}, SAMPLES, 0.0)
    assert loss == valid == 0
    assert norm(gradients.values()) == 0


def test_a_run_with_masked_positions_has_the_losses_of_any_division(job, tmp_path):
    """The log and the validation of whole runs; the micro batches differ in their ends of documents and empty ends of rows."""
    columns = ("train/lm_loss", "validation/lm_loss", "test/lm_loss")
    rows = []
    for name, ranks, keys in (("one", 1, {"train_micro_batch_size_per_gpu": 8}), ("two", 2, {"train_micro_batch_size_per_gpu": 1})):
        masks = {"eod_mask_loss": True, "pack_impl": "best_fit"}
        losses_of(ranks, job(**masks, seq_length=32, eval_iters=3, **keys), tmp_path / name)
        found = list(read_json_lines(tmp_path / name / "metrics.jsonl"))
        rows.append([row[column] for column in columns for row in found if column in row])
    assert len(rows[0]) == 6 + 2 + 1
    assert rows[1] == pytest.approx(rows[0], abs=5e-6)
