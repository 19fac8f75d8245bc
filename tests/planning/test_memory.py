"""The computed memory equals a real block's saved tensors, published figures, and DeepSpeed's own counts."""

from dataclasses import replace

import pytest
import torch
from deepspeed.runtime.pipe.schedule import TrainSchedule
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

from neox_code.config.model import ModelConfig
from neox_code.config.model_size import count_parameters
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.model.block import TransformerBlock
from neox_code.model.form import LayerState, unpack_state
from neox_code.model.loss import count_rows_at_once
from neox_code.parallel.grid import single_process_grid
from neox_code.planning.memory import (
    POSITIONS_AT_ONCE,
    Layout,
    compute_block_activations,
    compute_head_activations,
    compute_memory_per_gpu,
    count_held_micro_batches,
    count_stage_parameters,
    require_memory,
)

SHAPE = {"num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
TRAINING = {"lr": 1e-3, "train_iters": 10, "train_micro_batch_size_per_gpu": 2, "precision": "bfloat16"}
PADDED = 512


def measure_saved_bytes(model: ModelConfig, sequence: int, batch: int) -> int:
    """Return the bytes that a block's forward pass saves for its backward pass, without parameters and tables."""
    block = TransformerBlock(model, 1, single_process_grid(), torch.float32).train()
    hidden = torch.randn(batch, sequence, model.hidden_size, requires_grad=True)
    embedded = torch.randn_like(hidden) if model.embedding_skip else None
    values = torch.randn(batch, sequence, model.kv_heads, model.head_dim) if model.value_residual else None
    passed = [tensor for tensor in (embedded, values) if tensor is not None]
    own = {tensor.untyped_storage().data_ptr() for tensor in (*block.parameters(), *passed)}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and sequence * batch * model.num_attention_heads * 4 <= storage.nbytes():
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = unpack_state(block(LayerState(hidden, None, embedded, values, torch.arange(batch)).pack())).hidden_BSH
    assert result.grad_fn is not None
    return sum(storage.nbytes() for storage in kept.values())


def test_a_model_that_is_larger_than_the_memory_is_refused_with_its_keys():
    config = NeoXConfig.load([], SHAPE | TRAINING | {"hidden_size": 2**20})
    with pytest.raises(ConfigError, match=r"hidden_size \(1048576, .*need [\d,]+ GiB on each rank, which has 24 GiB"):
        require_memory(config, 1, PADDED, 24 * 2**30)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"pos_emb": "rotary"},
        {"pos_emb": "rotary", "num_kv_heads": 2},
        {"gpt_j_residual": True},
        {"intermediate_size": 96},
        {"activation": "relu"},
        {"activation": "swiglu"},
        {"activation": "reglu"},
        {"activation": "bilinear", "use_bias_in_mlp": False},
        {"pos_emb": "rotary", "num_kv_heads": 2, "embedding_skip": True, "value_residual": True},
        {"hidden_dropout": 0.1},
    ],
)
def test_a_block_saves_as_many_bytes_as_computed(keys, monkeypatch):
    """RMS normalization is not tested, as the CPU saves more for it than a GPU."""
    monkeypatch.setattr("neox_code.model.attention.is_better_in_blocks", lambda query: False)  # as on a GPU
    model = ModelConfig(**(SHAPE | keys))
    sequence, batch = 128, 4
    assert compute_block_activations(model, 1) * sequence * batch == pytest.approx(
        measure_saved_bytes(model, sequence, batch), rel=0.03
    )


def test_logits_of_a_chunk_are_counted_and_not_those_of_all_positions():
    assert count_rows_at_once(torch.device("cuda")) == POSITIONS_AT_ONCE
    model = ModelConfig(**SHAPE)
    two, four = (compute_head_activations(model, 1, 50_304, count * POSITIONS_AT_ONCE) for count in (2, 4))
    assert four - two == 2 * POSITIONS_AT_ONCE * 3 * model.hidden_size * 4


def test_parts_of_sequences_divide_what_tensor_ranks_hold_twice():
    model = ModelConfig(**SHAPE)
    assert compute_block_activations(model, 2, 2) == pytest.approx(compute_block_activations(model, 1) / 2, abs=1)


@pytest.mark.parametrize(("stage", "published_gb"), [(1, 31.4), (2, 16.6), (3, 1.88)])
def test_zero_memory_equals_the_papers_figures_for_7_5_billion_parameters_on_64_gpus(stage, published_gb):
    """Rajbhandari et al. 2020, figure 1."""
    sums = {"data_types": {"grad_accum_dtype": "bf16"}}  # the paper's, in 16 bits
    config = NeoXConfig.load([], {**SHAPE, **TRAINING, **sums, "zero_optimization": {"stage": stage}})
    memory = compute_memory_per_gpu(config, Layout.from_config(config, 64), PADDED)
    states = memory.weights + memory.gradients + memory.optimizer
    assert states / count_parameters(config.model, PADDED) * 7.5 == pytest.approx(published_gb, rel=0.01)


@pytest.mark.parametrize(("stages", "steps"), [(1, 8), (2, 1), (4, 8), (4, 2)])
def test_a_stage_holds_as_many_micro_batches_as_deepspeeds_schedule(stages, steps):
    layout = Layout(stages, 1, 1, 2, steps, False, 1)
    for stage in range(stages):
        buffers = TrainSchedule(micro_batches=steps, stages=stages, stage_id=stage).num_pipe_buffers()
        assert max(2, count_held_micro_batches(layout, stage)) == buffers


@pytest.mark.parametrize("is_untied", [True, False])
def test_all_stages_hold_the_model_and_a_tied_embedding_twice(is_untied):
    model = ModelConfig(**SHAPE, no_weight_tying=is_untied, pos_emb="none")
    layout = Layout(2, 1, 1, 2, 8, False, 1)
    held = sum(count_stage_parameters(model, layout, stage, PADDED).total for stage in range(2))
    assert held == count_parameters(model, PADDED) + (0 if is_untied else PADDED * model.hidden_size)


def test_recomputation_saves_the_inputs_of_blocks_and_one_whole_block():
    """Korthikanti et al. 2022, section 5: 2 s b h L bytes."""
    config = NeoXConfig.load([], {**SHAPE, **TRAINING, "pos_emb": "rotary"})
    layout = Layout.from_config(config, 1)
    whole = compute_memory_per_gpu(config, layout, PADDED).activations
    less = compute_memory_per_gpu(config, replace(layout, recompute=True), PADDED).activations
    tokens, block = 2 * 128, compute_block_activations(config.model, 1)
    assert whole - less == 4 * block * tokens - (2 * tokens * 64 * 4 + block * tokens)


@pytest.mark.parametrize("value", ["auto", None])
def test_an_unset_bucket_size_is_deepspeeds_default(value):
    buffers = []
    for settings in ({}, {"reduce_bucket_size": value}, {"reduce_bucket_size": 5e8}):
        keys = {"zero_optimization": settings, "data_types": {"grad_accum_dtype": "bf16"}}
        config = NeoXConfig.load([], {**SHAPE, **TRAINING, **keys})
        buffers.append(compute_memory_per_gpu(config, Layout.from_config(config, 1), PADDED).buffers)
    assert buffers == [DeepSpeedZeroConfig().reduce_bucket_size * 2] * 3


@pytest.mark.parametrize("key", ["model_parallel_size", "pipe_parallel_size"])
def test_parallelism_reduces_every_part(key):
    config = NeoXConfig.load([], {**SHAPE, **TRAINING, "no_weight_tying": True})
    memories = [
        compute_memory_per_gpu(changed, Layout.from_config(changed, size), PADDED)
        for size in (1, 2)
        for changed in [config.replace(**{key: size})]
    ]
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(memories[1], part) < getattr(memories[0], part)


@pytest.mark.parametrize(
    ("keys", "optimizer_bytes"),
    [
        ({"type": "adam"}, 12),
        ({"type": "lion"}, 8),
        ({"type": "sgd"}, 4),
        ({"type": "sgd", "params": {"momentum": 0.9}}, 8),
        ({"type": "cpu_adam"}, 0),
    ],
)
def test_an_optimizer_stores_fp32_weights_and_moments(keys, optimizer_bytes):
    offload = {"stage": 1, "offload_optimizer": {"device": "cpu"}} if keys["type"] == "cpu_adam" else {"stage": 1}
    config = NeoXConfig.load([], {**SHAPE, **TRAINING, "optimizer": keys, "zero_optimization": offload})
    memory = compute_memory_per_gpu(config, Layout.from_config(config, 1), PADDED)
    assert memory.optimizer == optimizer_bytes * count_parameters(config.model, PADDED)
