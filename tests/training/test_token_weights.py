"""Loss and gradient of a batch against torch's own, over micro batches, data ranks and stages; summed in fp32."""

import pytest
import torch
from distributed_runs import losses_of
from division_runs import make_samples, measure_error, measure_norm, run_layouts
from torch.nn import functional as F

from neox_code.config.neox import NeoXConfig
from neox_code.files import read_json_lines
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

VOCABULARY, SAMPLES = 512, 8


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_batch_without_masks_has_the_mean_of_all_tokens(job, ranks):
    file = job(no_weight_tying=False, train_batch_size=SAMPLES)
    (own,) = run_layouts(ranks, file, [{}], VOCABULARY, 2.0)
    (expected, gradients) = by_autograd(file, own.weights, torch.float32, SAMPLES, 1)
    assert [*own.losses, own.validation_loss] == pytest.approx([expected] * 2, abs=1e-6)
    assert measure_error(own.gradients, gradients) < 2e-6


def by_autograd(file, weights, dtype, count, micro_batches):
    """Return torch's mean cross entropy of the samples and its gradients, those of micro batches summed in fp64."""
    config = NeoXConfig.load([file], {})
    model = GPT(build_layers(config.model, VOCABULARY, VOCABULARY, single_process_grid(), dtype, 0))
    own = {f"sequential.{name}": value for name, value in weights.items()}
    assert not model.load_state_dict(own, strict=False).unexpected_keys
    total, sums = 0.0, dict.fromkeys(weights, 0.0)
    for tokens in make_samples(VOCABULARY, count, 2.0)[0].chunk(micro_batches):
        loss = F.cross_entropy(model(tokens[:, :-1]).float().flatten(0, 1), tokens[:, 1:].flatten()) / micro_batches
        model.zero_grad()
        loss.backward()
        total += loss.item()
        for name, value in model.named_parameters():
            sums[name.removeprefix("sequential.")] += value.grad.double()
    return total, sums


TIED, STAGES = {"no_weight_tying": False}, {"pipe_parallel_size": 2}


@pytest.mark.parametrize(
    ("ranks", "layouts"),
    [(1, [{}, TIED, {"zero_optimization": {"stage": 2}}, {"zero_optimization": {"stage": 3}}]), (2, [STAGES | TIED])],
)
def test_64_micro_batches_in_bf16_are_summed_in_fp32(job, ranks, layouts):
    """In bf16 the error of the sum is 0.009; a tied embedding rounds each of its two gradients."""
    keys = {"precision": "bfloat16", "train_batch_size": 64, "train_micro_batch_size_per_gpu": 1, "pipe_parallel_size": 0}
    for layout, own in zip(layouts, run_layouts(ranks, job(**keys), layouts, VOCABULARY, 2.0), strict=True):
        _, expected = by_autograd(job(**keys | layout), own.weights, torch.bfloat16, 64, 64)
        assert measure_error(own.gradients, expected) < 0.002, layout


def test_a_batch_with_only_masked_tokens_changes_no_weight(job):
    (own,) = run_layouts(1, job(precision="bfloat16"), [{}], VOCABULARY, 0.0)
    assert own.losses == [own.validation_loss] == [0]
    assert measure_norm(own.gradients.values()) == 0


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
