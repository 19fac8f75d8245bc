"""Muon over ranks against one process, and its state in other layouts."""

import pytest
import torch
from distributed_runs import losses_of

from neox_code.checkpoint.weights import read_weights
from neox_code.config.neox import NeoXConfig

MUON = {"type": "muon", "params": {"lr": 0.003, "muon_lr": 0.01, "embedding_lr": 0.006, "betas": [0.9, 0.95]}}
GROUPED = {"num_kv_heads": 2, "activation": "swiglu", "mlp_multiple_of": 4, "norm": "rmsnorm", "qk_norm": True}
VOCABULARY = 640
"""Number of entries of the job's vocabulary. The rows after them are padding, which differs between layouts."""

LAYOUTS = {
    "data": (2, {"pipe_parallel_size": 0}),
    "tensor": (2, {"model_parallel_size": 2}),
    "pipeline": (2, {"pipe_parallel_size": 2}),
    "all": (4, {"pipe_parallel_size": 2, "model_parallel_size": 2}),
    "data and tensor": (4, {"model_parallel_size": 2}),
}


@pytest.mark.parametrize(
    ("keys", "layouts"),
    [({}, ("data", "tensor", "pipeline")), (GROUPED, ("data and tensor", "all"))],
    ids=["interleaved", "grouped"],
)
def test_muon_trains_alike_at_every_layout_and_its_state_moves_between_them(job, tmp_path, keys, layouts):
    """Each layout makes two steps from the state that the layout before it saved."""
    steps = 2 * len(layouts)
    keys = keys | {"optimizer": MUON, "eval_iters": 0, "train_iters": steps}
    expected = losses_of(1, job(**keys), tmp_path / "one")
    save = tmp_path / "moving"
    for ranks, layout in (LAYOUTS[name] for name in layouts):
        found = losses_of(ranks, job(**keys, **layout), save, load=str(save), exit_interval=2)
        assert found == pytest.approx(expected[: len(found)], abs=5e-6)
    assert len(found) == steps and found[-1] < found[0] - 0.1
    model = NeoXConfig.load([job(**keys)]).model
    one, moved = (read_weights(tmp_path / name / f"global_step{steps}", model) for name in ("one", "moving"))
    for name in one:
        torch.testing.assert_close(moved[name][:VOCABULARY], one[name][:VOCABULARY], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", ["data", "pipeline"])
def test_a_bf16_run_with_muon_resumes_to_the_bit(job, tmp_path, layout):
    ranks, keys = LAYOUTS[layout]
    file, save = job(**keys, optimizer=MUON, precision="bfloat16", eval_iters=0), tmp_path / "halves"
    whole = losses_of(ranks, file, tmp_path / "whole")
    losses_of(ranks, file, save, load=str(save), exit_interval=3)
    assert losses_of(ranks, file, save, load=str(save)) == whole
