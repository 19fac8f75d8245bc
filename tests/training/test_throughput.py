"""Peaks by names that drivers report, and FLOPs a token against torch's own count and a published formula."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from neox_code.config.model import ModelConfig
from neox_code.config.model_size import compute_training_flops_per_token
from neox_code.machine import find_known_peak
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

SHEETS = {
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 NVL": 835,
    "NVIDIA H200": 989,
    "NVIDIA H200 NVL": 835,
    "NVIDIA GH200 480GB": 989,
    "NVIDIA H20": 148,
    "NVIDIA B200": 2250,
    "NVIDIA GB200": 2500,
    "NVIDIA B300 SXM6 AC": 2250,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA L40S": 362,
    "NVIDIA GeForce RTX 5090": 209.5,
    "Tesla V100-SXM2-16GB": 125,
    "Tesla V100-PCIE-32GB": 112,
    "Tesla T4": 65,
    "NVIDIA GeForce RTX 4090 Laptop GPU": None,
    "NVIDIA GeForce RTX 5090 D": None,
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb": None,
    "NVIDIA L40": None,
    "NVIDIA A10G": None,
    "Quadro P2000": None,
}


@pytest.mark.parametrize("name", SHEETS)
def test_a_device_has_the_dense_peak_of_its_data_sheet(name):
    assert find_known_peak(name) == SHEETS[name]


def test_flops_are_6_n_and_12_l_h_s():
    """Pythia 1.4B by hand: 24 layers of 2048, 50,304 entries; N of blocks is 24 * 12 * 2048**2."""
    model = ModelConfig(num_layers=24, hidden_size=2048, num_attention_heads=16, max_position_embeddings=2048, pos_emb="rotary")
    expected = 6 * (24 * 12 * 2048**2 + 50304 * 2048) + 12 * 24 * 2048 * 2048
    assert compute_training_flops_per_token(model, 50304, 2048) == expected


@pytest.mark.parametrize("keys", [{}, {"activation": "swiglu", "num_kv_heads": 2}])
def test_flops_are_those_that_torch_counts_in_a_step(keys, monkeypatch):
    monkeypatch.setattr("neox_code.model.attention.is_better_in_blocks", lambda query: False)  # whole attention, as on a GPU
    shape = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128, "pos_emb": "none"}
    model = ModelConfig(**shape, no_weight_tying=True, **keys)
    module = GPT(build_layers(model, 512, 512, single_process_grid(), torch.float32, 0))
    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        module(torch.randint(0, 512, (2, 128))).sum().backward()
    assert counter.get_total_flops() / 256 == pytest.approx(compute_training_flops_per_token(model, 512, 128), rel=0.01)
