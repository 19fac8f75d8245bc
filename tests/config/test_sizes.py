"""Configurations from one number, against the built model and figures that are published: Chinchilla's, GPT-3's, nanochat's."""

import math
from pathlib import Path

import pytest
import torch

from neox_code.config.neox import NeoXConfig
from neox_code.config.sizes import read_size
from neox_code.errors import ConfigError
from neox_code.machine import read_gpu_names
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

MODERN = Path(__file__).parents[2] / "configs" / "modern.yml"


def load(**keys: object) -> NeoXConfig:
    return NeoXConfig.load([MODERN], keys)


def count_tokens(config: NeoXConfig) -> int:
    assert config.training.train_batch_size
    return config.training.num_steps * config.training.train_batch_size * config.model.sample_length


def compute_flops(config: NeoXConfig) -> float:
    """Return 6 N D plus attention's products, with the parameters of the blocks and the head, from their shapes."""
    model = config.model
    block = 4 * model.hidden_size**2 + 3 * model.hidden_size * model.feed_forward_size
    weights = model.num_layers * block + model.hidden_size * 50304
    return count_tokens(config) * (6 * weights + 12 * model.num_layers * model.hidden_size * model.sample_length)


@pytest.mark.parametrize("size", ["20M", "160M", "405M", "2.7B"])
def test_the_built_model_has_the_size(size):
    config = load(size=size)
    with torch.device("meta"):
        built = GPT(build_layers(config.model, 50257, 50304, single_process_grid(), torch.float32, 0, False))
    assert sum(parameter.numel() for parameter in built.parameters()) == pytest.approx(read_size(size), rel=0.05)
    assert 40 < config.model.hidden_size / config.model.num_layers < 110
    assert config.origins["num_layers"].startswith(f"size {size}: ") and "nanochat" in config.origins["num_layers"]


def test_the_figures_of_the_sources_follow():
    assert count_tokens(load(size="70B")) == pytest.approx(1.4e12, rel=0.05)  # Chinchilla
    assert load(size="66M").training.train_batch_size == 2**19 // 2048  # nanochat's reference, 1.32e9 tokens
    small, large = load(size="125M", num_layers=12), load(size="2.7B", num_layers=32)
    assert small.optimizer.lr == pytest.approx(6e-4, rel=0.1)  # GPT-3's table: 125M and 2.7B
    assert large.optimizer.lr == pytest.approx(1.6e-4, rel=0.2)
    assert small.model.hidden_size == 768 and large.model.hidden_size == 2560


def test_a_budget_sets_the_horizon_and_without_a_size_the_size():
    fixed, half = load(size="160M", budget_flops=4e18), load(size="160M", budget_flops=2e18)
    assert compute_flops(fixed) == pytest.approx(4e18, rel=0.01)
    assert count_tokens(half) == pytest.approx(count_tokens(fixed) / 2, rel=0.01)
    assert half.model == fixed.model
    whole, quarter = load(budget_flops=4e18), load(budget_flops=1e18)
    assert count_tokens(quarter) == pytest.approx(count_tokens(whole) / 2, rel=0.1)  # tokens and parameters share the factor
    assert compute_flops(whole) == pytest.approx(4e18, rel=0.08)
    hours = load(budget_hours=2, device_tflops=50, global_num_gpus=8)
    assert compute_flops(hours) == pytest.approx(2 * 3600 * 8 * 50e12, rel=0.08)
    assert "8 * 50 TFLOP/s" in hours.origins["train_iters"]


def test_explicit_keys_replace_rules_and_the_others_follow():
    rule, own = load(size="160M"), load(size="160M", train_batch_size=64, num_layers=24, **{"optimizer.params.lr": 1e-3})
    assert own.training.num_steps == pytest.approx(4 * rule.training.num_steps, rel=0.05)
    assert own.model.num_layers == 24 and own.model.hidden_size < rule.model.hidden_size and own.optimizer.lr == 1e-3
    assert load(size="160M", train_iters=7).training.train_iters == 7
    divided = load(size="160M", model_parallel_size=4, num_kv_heads=4)
    assert divided.model.num_attention_heads % 4 == 0
    kept = NeoXConfig.load([MODERN.with_name("modern-160M.yml")], {"size": "1B"})
    assert kept.model.num_layers == 18 and "size" in [entry.key for entry in kept.ignored]


def test_written_configurations_load_with_the_same_values(tmp_path):
    config = load(size="160M", budget_flops=1e18)
    (tmp_path / "all.yml").write_text(config.to_yaml())
    assert NeoXConfig.load([tmp_path / "all.yml"]) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "many"}, "Write size as 160M"),
        ({"size": "160"}, "the nearest has"),
        ({"budget_hours": 1, "budget_flops": 1e18}, "Remove one of them"),
        ({"size": "160M", "num_layers": 0}, "num_layers"),
        ({"size": "160M", "num_layers": -3}, "num_layers"),
        ({"size": "160M", "kv_channels": -8}, "kv_channels"),
        ({"budget_flops": -1.0}, "budget_flops"),
    ],
)
def test_wrong_numbers_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        load(**keys)


def test_names_of_gpus_are_read_from_the_driver(tmp_path):
    (tmp_path / "0000:00:04.0").mkdir()
    (tmp_path / "0000:00:04.0" / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   12\n")
    assert read_gpu_names(tmp_path) == ["NVIDIA H100 80GB HBM3"] and read_gpu_names(tmp_path / "none") == []
    assert math.isfinite(read_size("2.7B"))
