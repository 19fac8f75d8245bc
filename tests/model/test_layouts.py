"""Models of other families train to the same losses on two pipeline stages of two tensor ranks as in one process."""

import pytest
from distributed_runs import losses_of

LLAMA = {
    "norm": "rmsnorm",
    "num_kv_heads": 2,
    "activation": "swiglu",
    "mlp_multiple_of": 16,
    "use_bias_in_attn_linear": False,
    "use_bias_in_mlp": False,
    "init_method": "xavier_normal",
}
BLOOM = {"pos_emb": "alibi", "no_weight_tying": False, "bias_gelu_fusion": True, "gpt_j_residual": True}


@pytest.mark.parametrize("keys", [LLAMA, BLOOM], ids=["llama", "bloom"])
def test_four_ranks_train_to_the_losses_of_one_process(job, tmp_path, keys):
    alone = losses_of(1, job(**keys, pipe_parallel_size=0), tmp_path / "alone")
    layout = {"pipe_parallel_size": 2, "model_parallel_size": 2, "checkpoint_activations": True}
    assert losses_of(4, job(**keys, **layout), tmp_path / "four") == pytest.approx(alone, abs=1e-4)
