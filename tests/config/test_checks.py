"""Each check finds its problem, and its message contains the arithmetic."""

import math

import pytest

from neox_code.config.checks import RANGES
from neox_code.config.fields import FIELDS
from neox_code.config.model_size import compute_training_flops_per_token
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.planning.memory import Layout, compute_memory_per_gpu


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"hidden_size": 66}, "hidden_size (66, --set) must be a multiple of num_attention_heads (4, --set). Nearest: 64 or 68."),
        ({"hidden_size": 2}, "hidden_size (2, --set) must be a multiple of num_attention_heads (4, --set). Nearest: 4."),
        (
            {"model_parallel_size": 3},
            "num_attention_heads (4, --set) must be a multiple of model_parallel_size (3, --set). Nearest: 3 or 6.",
        ),
        (
            {"intermediate_size": 101, "model_parallel_size": 2},
            "intermediate_size (101, --set) must be a multiple of model_parallel_size (2, --set). Nearest: 100 or 102.",
        ),
        ({"kv_channels": 0}, "kv_channels (0, --set) must be at least 1 and at most 1048576."),
        ({"kv_channels": 15, "pos_emb": "rotary"}, "rotates 15 of a head's 15 dimensions, which must be an even number above 0."),
        (
            {"hidden_size": 66, "kv_channels": 32, "num_attention_heads": 16, "model_parallel_size": 16},
            "the feed-forward layer is 264 wide (hidden_size (66, --set), activation (gelu, default), mlp_multiple_of (1, "
            "default)), which must be a multiple of model_parallel_size (16, --set). Set mlp_multiple_of to 16.",
        ),
        ({"num_kv_heads": 3}, "num_attention_heads (4, --set) must be a multiple of num_kv_heads (3, --set). Nearest: 3 or 6."),
        (
            {"num_kv_heads": 1, "model_parallel_size": 2},
            "num_kv_heads (1, --set) must be a multiple of model_parallel_size (2, --set). Nearest: 2.",
        ),
        (
            {"activation": "swiglu", "model_parallel_size": 2},
            "the feed-forward layer is 85 wide (hidden_size (64, --set), activation (swiglu, --set), mlp_multiple_of (1, "
            "default)), which must be a multiple of model_parallel_size (2, --set). Set mlp_multiple_of to 2.",
        ),
        (
            {"intermediate_size": 128, "expansion_factor": 2},
            "intermediate_size (128, --set) and expansion_factor (2, --set) exclude each other.",
        ),
        ({"pos_emb": "rotary", "rotary_pct": 0.2}, "rotary_pct (0.2, --set) rotates 3 of a head's 16 dimensions"),
        ({"pos_emb": "rotary", "rotary_pct": 0.05}, "rotary_pct (0.05, --set) rotates 0 of a head's 16 dimensions"),
        ({"seq_length": 129}, "seq_length (129, --set) must be at most max_position_embeddings (128, --set)."),
        ({"pipe_parallel_size": 3}, "pipe_parallel_size (3, --set) must be at most num_layers (2, --set)"),
        ({"zero_stage": 2, "pipe_parallel_size": 1}, "zero_stage (2, --set) divides gradients"),
        ({"lr": 1e-4, "min_lr": 1e-3}, "min_lr (0.001, --set) must be at most lr (0.0001, --set)."),
        ({"lr_decay_iters": 9, "lr_decay_fraction": 0.5}, "lr_decay_iters (9, --set) and lr_decay_fraction (0.5, --set) exclude"),
        ({"optimizer_type": "muon", "zero_stage": 3}, "which zero_stage (3, --set) divides. Set zero_optimization.stage to 1"),
        (
            {"optimizer_type": "muon", "zero_optimization": {"round_robin_gradients": True}},
            "which zero_optimization ({round_robin_gradients: true}, --set) changes. Remove round_robin_gradients.",
        ),
        (
            {"optimizer_type": "muon", "use_bnb_optimizer": True},
            "has Adam, SGD and Lion, and not optimizer_type (muon, --set). Remove one of them.",
        ),
        ({"use_bnb_optimizer": True, "optimizer_type": "cpu_adam"}, "use_bnb_optimizer (true, --set) keeps states on the GPU"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, "Set optimizer.type to cpu_adam, or remove"),
        (
            {"nesterov": True},
            "nesterov (true, --set) needs a momentum (null, default) above 0 and a dampening (0.0, default) of 0.",
        ),
        ({"momentum": 2}, "momentum (2, --set) must be at least 0 and at most 1."),
        (
            {"data_path": "a", "train_data_paths": ["b"]},
            "data_path (a, --set) and train_data_paths ([b], --set) exclude each other.",
        ),
        ({"train_data_paths": ["a", "b"], "train_data_weights": [1]}, "has 1 entries for the 2 of train_data_paths"),
        ({"test_data_paths": ["a"], "test_data_weights": [0]}, "test_data_weights ([0], --set) must have an entry above 0."),
        ({"include": "a", "exclude": "b"}, "include (a, --set) and exclude (b, --set) exclude each other."),
        ({"num_layers": 0}, "num_layers (0, --set) must be at least 1 and at most 10000."),
        ({"seed": 2**32}, "seed (4294967296, --set) must be at least 0 and below 4294967296."),
        ({"lr": 1e31}, "lr (1e+31, --set) must be a number of at most 1e+30."),
        ({"hidden_size": 1e300}, "hidden_size (1e+300, --set) must be a whole number that 64 bits can hold."),
        ({"expansion_factor": 1e300}, "expansion_factor (1e+300, --set) must be a number of at most 1e+30."),
        (
            {"pipe_partition_method": "foo"},
            "pipe_partition_method (foo, --set) must be parameters, uniform, or type: and a regular",
        ),
        ({"pipe_partition_method": "type:("}, "pipe_partition_method (type:(, --set) must be parameters, uniform, or type:"),
        ({"pipe_partition_method": "type:(?:a|b)"}, "a regular expression without a colon, such as type:transformer."),
        ({"pipe_partition_method": "type:"}, "pipe_partition_method (type:, --set) must be parameters, uniform, or type:"),
        ({"hidden_dropout": 1}, "hidden_dropout (1, --set) must be at least 0 and below 1."),
        ({"rotary_pct": 0}, "rotary_pct (0, --set) must be above 0 and at most 1."),
        ({"betas": [0.9, 1]}, "betas ([0.9, 1], --set) must be at least 0 and below 1."),
        ({"master_port": 70000}, "master_port (70000, --set) must be at least 1 and at most 65535."),
        ({"top_p": -0.1}, "top_p (-0.1, --set) must be at least 0 and at most 1."),
    ],
)
def test_a_bad_value_is_reported_once(shape, keys, sentence):
    with pytest.raises(ConfigError) as caught:
        NeoXConfig.load([], {**shape, **keys})
    assert str(caught.value).startswith(sentence) or sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"seq_length": 128},
        {"seed": 2**32 - 1, "lr": 1e30},
        {"pipe_partition_method": "parameters"},
        {"pipe_partition_method": "Uniform"},
        {"pipe_partition_method": "type:(transformer|mlp)"},
        {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}, "optimizer_type": "cpu_adam"},
        {"zero_optimization": {"cpu_offload": False, "offload_optimizer": {"device": "none"}}},
        {"nesterov": True, "momentum": 0.9},
        {"pipe_parallel_size": 2, "zero_stage": 1},
        {"pipe_parallel_size": 0, "zero_stage": 3},
        {"pos_emb": "rotary", "rotary_pct": 0.25},
        {"pos_emb": "learned", "rotary_pct": 0.2},
        {"model_parallel_size": 4},
        {"num_kv_heads": 2, "model_parallel_size": 2},
        {"hidden_size": 66, "kv_channels": 32, "pos_emb": "rotary"},
        {"hidden_size": 1024, "num_attention_heads": 16, "kv_channels": 128, "num_kv_heads": 8, "qk_norm": True},
        {"activation": "swiglu", "mlp_multiple_of": 2, "model_parallel_size": 2},
        {"lr": 1e-3, "min_lr": 1e-3, "warmup": 0},
        {"eval_iters": 0, "gradient_clipping": 0, "weight_decay": 0},
        {"train_data_paths": ["a", "b"], "train_data_weights": [0, 1]},
    ],
)
def test_values_at_the_edge_are_accepted(shape, keys):
    NeoXConfig.load([], {**shape, **keys})


def test_the_largest_sizes_that_are_accepted_can_be_added_up(shape):
    """What a dry run works out of them stays finite."""
    bounded = {name: interval.high for name, interval in RANGES.items() if interval.high < math.inf}
    most = {name: int(high) for name, high in bounded.items() if FIELDS[name].annotation in (int, int | None)}
    others = {"seed": 0, "train_batch_size": None, "mlp_multiple_of": None, "seq_length": None}
    config = NeoXConfig.load([], {**shape, **most, **others})
    memory = compute_memory_per_gpu(config, Layout.from_config(config, 1024), 2**62)
    assert math.isfinite(float(memory.total))
    assert math.isfinite(compute_training_flops_per_token(config.model, 2**62, 2**62))


def test_intervals_are_of_fields_that_exist_and_hold_their_defaults():
    for name, interval in RANGES.items():
        default = FIELDS[name].default
        for value in default if isinstance(default, tuple) else (default,):
            assert value is None or value in interval, name
