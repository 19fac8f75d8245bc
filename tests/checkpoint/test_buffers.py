"""What GPT-NeoX's strict loading finds beside the parameters: names, shapes and types of the buffers that it registers."""

import pytest
import torch
from distributed_runs import losses_of

from neox_code.checkpoint.layout import get_layer_path, make_step_name, model_file

SLOPES = [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]


def assert_same(found: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), atol=0, rtol=1e-6)


def buffers(state: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in state if name.endswith(("slopes", "inv_freq"))}


def test_alibi_slopes_are_written_for_the_heads_of_each_tensor_rank_and_the_run_resumes(job, tmp_path):
    file = job(pos_emb="alibi", apply_query_key_layer_scaling=True, model_parallel_size=2, num_layers=3)
    whole = losses_of(2, file, tmp_path / "save")
    losses_of(2, file, tmp_path / "half", exit_interval=3)
    for rank in range(2):
        for layer in (2, 3, 4):
            state = torch.load(get_layer_path(tmp_path / "save" / make_step_name(6), layer, rank), weights_only=True)
            assert buffers(state) == {"attention.alibi_embed.slopes"}
            assert_same(state["attention.alibi_embed.slopes"], SLOPES[2 * rank : 2 * rank + 2])
        assert not buffers(torch.load(get_layer_path(tmp_path / "save" / make_step_name(6), 0, rank), weights_only=True))
    assert losses_of(2, file, tmp_path / "half", load=str(tmp_path / "half")) == whole


def test_sinusoidal_frequencies_are_written_and_the_run_resumes_without_a_pipeline(job, tmp_path):
    file = job(pos_emb="sinusoidal", pipe_parallel_size=0, no_weight_tying=False)
    whole = losses_of(1, file, tmp_path / "save")
    losses_of(1, file, tmp_path / "half", exit_interval=3)
    module = torch.load(model_file(tmp_path / "half" / make_step_name(3), 0), weights_only=True)["module"]
    assert buffers(module) == {"sequential.0.position_embeddings.inv_freq"}
    assert_same(module["sequential.0.position_embeddings.inv_freq"], [10000 ** (-2 * pair / 64) for pair in range(32)])
    assert losses_of(1, file, tmp_path / "half", load=str(tmp_path / "half")) == whole


@pytest.mark.parametrize("rotary_save_freqs_buffer", [False, True])
def test_rotary_frequencies_are_written_where_gpt_neox_writes_them(job, tmp_path, rotary_save_freqs_buffer):
    file = job(rotary_save_freqs_buffer=rotary_save_freqs_buffer, rotary_pct=0.5, rotary_emb_base=500, train_iters=1, eval_iters=0)
    losses_of(1, file, tmp_path / "save")
    for layer in (2, 3):
        state = torch.load(get_layer_path(tmp_path / "save" / make_step_name(1), layer, 0), weights_only=True)
        assert buffers(state) == ({"attention.rotary_emb.inv_freq"} if rotary_save_freqs_buffer else set())
        if rotary_save_freqs_buffer:
            assert_same(state["attention.rotary_emb.inv_freq"], [500 ** (-2 * pair / 8) for pair in range(4)])
