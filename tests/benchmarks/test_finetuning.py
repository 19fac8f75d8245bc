"""The contestants of the fine-tuning benchmark train the same parameters of the same model."""

import pytest
import torch

from neox_code.adapters.attach import extend_model
from neox_code.benchmarks.finetuning_contest import PEER, PEERS, make_adapter_config
from neox_code.benchmarks.training_contest import make_environment
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_both_train_the_same_parameters(job):
    pytest.importorskip("peft", reason="the peer of this benchmark: pip install -e '.[peft]'")
    finetuning = pytest.importorskip("neox_code.benchmarks.finetuning")
    config = make_adapter_config([str(job(norm="rmsnorm", activation="swiglu", num_kv_heads=2, use_bias_in_attn_linear=False))])
    gpt = GPT(build_layers(config.model, 640, 640, single_process_grid(), torch.bfloat16))
    extend_model(gpt, config, 640, single_process_grid())
    ours = sorted(tuple(parameter.shape) for parameter in gpt.parameters() if parameter.requires_grad)
    model, step = finetuning.build_peer_step(config, torch.device("cpu"))
    assert sorted(tuple(parameter.shape) for parameter in model.parameters() if parameter.requires_grad) == ours
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(2):  # the first step has no gradient of A, because B is 0
        step(torch.arange(34)[None])
    changed = [not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True)]
    assert changed == [parameter.requires_grad for parameter in model.parameters()]


def test_only_the_untouched_peer_lacks_our_allocator():
    assert [name for name in PEERS if not make_environment(name)] == [PEER]
