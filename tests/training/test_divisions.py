"""Initial weights, losses, gradients and updates of every layout against those of one process with one micro batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from division_runs import Division, measure_error, run_layouts
from model_keys import DOCUMENTS, LLAMA

VOCAB_SIZE = 245
DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1}
MODELS = {
    "untied": DROPOUT,
    "tied and uneven": DROPOUT | {"no_weight_tying": False, "num_layers": 3, "pos_emb": "learned"},
    "documents": LLAMA | DOCUMENTS | {"hidden_dropout": 0.1, "init_method": "small_init"},
}
"""Three layers are divided unevenly over two stages. All models have dropout."""

TENSOR, STAGES, PARTS = {"model_parallel_size": 2}, {"pipe_parallel_size": 2}, {"sequence_parallel": True}
PLAIN = {"pipe_parallel_size": 0}
EVERY, SECOND, ATTENTION = (
    {"checkpoint_activations": True} | keys for keys in ({}, {"checkpoint_num_layers": 2}, {"checkpoint_granularity": "attention"})
)
LAYOUTS = {
    1: [{"train_micro_batch_size_per_gpu": 1} | ATTENTION, EVERY, SECOND],
    2: [
        PLAIN | TENSOR,
        PLAIN | TENSOR | PARTS | EVERY,
        PLAIN,
        PLAIN | {"zero_optimization": {"stage": 2}} | EVERY,
        PLAIN | {"zero_optimization": {"stage": 3}} | ATTENTION,
        STAGES | {"train_micro_batch_size_per_gpu": 1} | ATTENTION,
        STAGES | SECOND,
    ],
    4: [PLAIN | TENSOR | PARTS, STAGES | EVERY, STAGES | TENSOR | ATTENTION, STAGES | TENSOR | PARTS | SECOND],
}
"""Number of ranks -> layouts. What the ranks are not divided by is the data axis."""


def run_models(ranks: int, file: Path, layouts: Sequence[dict[str, Any]], precision: str) -> dict[str, Division]:
    """Return the results by model and layout."""
    shared = {"precision": precision, "mask_padded_vocab": True, "make_vocab_size_divisible_by": 8}
    keys = {f"{name}, {layout}": shared | model | layout for name, model in MODELS.items() for layout in layouts}
    return dict(zip(keys, run_layouts(ranks, file, list(keys.values()), VOCAB_SIZE, steps=6), strict=True))


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Division]]:
    """Results of one process with one micro batch, by precision; filled by the first test that needs them."""
    return {}


@pytest.mark.parametrize(("ranks", "precision"), [(1, "fp32"), (2, "fp32"), (4, "fp32"), (4, "bfloat16")])
def test_every_layout_has_the_weights_losses_and_gradients_of_one_process(job, alone, ranks, precision):
    file, is_fp32 = job(), precision == "fp32"
    if precision not in alone:
        alone[precision] = run_models(1, file, [PLAIN | {"train_micro_batch_size_per_gpu": 8}], precision)
    assert len({loss for division in alone[precision].values() for loss in division.losses}) == 6 * len(MODELS)
    expected = {name.split(",")[0]: division for name, division in alone[precision].items()}
    for case, own in run_models(ranks, file, LAYOUTS[ranks], precision).items():
        whole = expected[case.split(",")[0]]
        assert own.losses == pytest.approx(whole.losses, abs=1e-5 if is_fp32 else 0.02), case
        assert own.validation_loss == pytest.approx(whole.validation_loss, abs=1e-6 if is_fp32 else 2e-3), case
        assert own.weights.keys() == own.gradients.keys() == whole.weights.keys()
        for name, weight in whole.weights.items():
            assert torch.equal(own.weights[name], weight), f"{name}: {case}"
            difference = (own.gradients[name] - whole.gradients[name]).abs().max()
            assert difference < (1e-5 if is_fp32 else 0.02), f"{name}: {case}: {difference}"
        assert measure_error(own.gradients, whole.gradients) < (2e-5 if is_fp32 else 0.05), case
