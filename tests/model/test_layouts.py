"""Models of other families train to the same losses on two pipeline stages of two tensor ranks as in one process."""

from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of
from model_keys import DOCUMENTS, LLAMA

from neox_code.checkpoint.layout import make_step_name
from neox_code.data.indexed_dataset import IndexedDatasetWriter, choose_id_dtype
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.training.trackers import read_metrics

QWEN3 = LLAMA | {"kv_channels": 24, "qk_norm": True, "rms_norm_epsilon": 1e-6}
RESIDUALS = {"token_smear": True, "embedding_skip": True, "value_residual": True, "z_loss_coefficient": 0.1}
BLOOM = {"pos_emb": "alibi", "no_weight_tying": False, "bias_gelu_fusion": True, "gpt_j_residual": True}


@pytest.fixture
def short_documents(job_folder, tmp_path) -> str:
    """Return the path of a token file with several documents in each row of 64 tokens."""
    eod_id = GPT2Tokenizer.from_files(job_folder / "code-vocab.json", job_folder / "code-merges.txt").eod_id
    generator = torch.Generator().manual_seed(0)
    with IndexedDatasetWriter(tmp_path / "short", choose_id_dtype(640)) as writer:
        for length in torch.randint(3, 40, (300,), generator=generator).tolist():
            writer.add_document([*torch.randint(5, 600, (length,), generator=generator).tolist(), eod_id])
    return str(tmp_path / "short")


@pytest.mark.parametrize(
    ("keys", "layout"),
    [
        (LLAMA, {"checkpoint_activations": True}),
        (QWEN3 | DOCUMENTS, {"checkpoint_activations": True, "checkpoint_granularity": "attention", "sequence_parallel": True}),
        (BLOOM | DOCUMENTS, {"checkpoint_activations": True, "sequence_parallel": True}),
        (QWEN3 | RESIDUALS | DOCUMENTS | {"num_layers": 3}, {"checkpoint_activations": True, "sequence_parallel": True}),
    ],
    ids=["llama", "qwen3 with documents", "bloom with documents", "residuals with documents"],
)
def test_four_ranks_train_to_the_losses_of_one_process(job, short_documents, tmp_path, keys, layout):
    keys = keys | {"data_path": short_documents}
    alone = losses_of(1, job(**keys, pipe_parallel_size=0), tmp_path / "alone")
    four = losses_of(4, job(**keys, **layout, pipe_parallel_size=2, model_parallel_size=2), tmp_path / "four")
    assert four == pytest.approx(alone, abs=1e-5)


def test_a_model_with_all_residuals_resumes_to_the_bit_and_in_other_layouts(job, tmp_path):
    """With a tied head, whose stage has the embedding's other parameters too."""
    keys = RESIDUALS | {"no_weight_tying": False, "pipe_parallel_size": 0, "num_layers": 3}
    whole = losses_of(1, job(**keys), tmp_path / "whole")
    losses_of(1, job(**keys), tmp_path / "two", exit_interval=3)
    for number, layout in enumerate(({"pipe_parallel_size": 2, "model_parallel_size": 2}, {"pipe_parallel_size": 3})):
        moved = losses_of(4 - number, job(**keys | layout), tmp_path / f"moved {number}", load=str(tmp_path / "two"))
        assert moved == pytest.approx(whole[3:], abs=1e-5)
    assert losses_of(1, job(**keys), tmp_path / "two") == whole
    stored = torch.load(tmp_path / "two" / make_step_name(6) / "mp_rank_00_model_states.pt", weights_only=False)["module"]
    assert stored["sequential.0.smear"].abs().max() > 0.001
    assert (stored["sequential.4.embedding_skip"] - torch.tensor([1.0, 0.0])).abs().min() > 0.001
    assert (stored["sequential.4.attention.value_residual"] - 0.5).abs().min() > 0.001


def read_head_norms(folder: Path, name: str) -> list[torch.Tensor]:
    """Return the weights of the last block's norm of queries or keys in the files of all tensor ranks."""
    if files := sorted(folder.glob("layer_03-model_*-model_states.pt")):
        return [torch.load(file, weights_only=True)[name] for file in files]
    files = sorted(folder.glob("mp_rank_*_model_states.pt"))
    return [torch.load(file, weights_only=False)["module"][f"sequential.3.{name}"] for file in files]


@pytest.mark.parametrize("layout", [{"pipe_parallel_size": 0}, {"pipe_parallel_size": 2, "checkpoint_activations": True}], ids=str)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bfloat16", 1e-2)])
def test_norms_of_heads_learn_from_the_heads_of_all_tensor_ranks(job, tmp_path, precision, tolerance, layout):
    one, four = tmp_path / "one", tmp_path / "four"
    expected = losses_of(1, job(**QWEN3, precision=precision), one)
    losses = losses_of(4, job(**QWEN3 | layout, precision=precision, model_parallel_size=2), four)
    assert losses == pytest.approx(expected, abs=tolerance)
    norms = [
        [row["train/grad_norm"] for row in read_metrics(run / "metrics.jsonl") if "train/lm_loss" in row] for run in (one, four)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=tolerance)
    for name in ("attention.q_norm.scale", "attention.k_norm.scale"):
        (whole,), (first, second) = read_head_norms(one / make_step_name(6), name), read_head_norms(four / make_step_name(6), name)
        assert torch.equal(first, second)
        torch.testing.assert_close(first, whole, atol=tolerance, rtol=0)
        assert not torch.equal(whole, torch.ones_like(whole))
