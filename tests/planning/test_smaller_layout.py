"""A layout proposed for a smaller GPU passes the check that the original layout failed."""

from pathlib import Path

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.planning.memory import Layout
from neox_code.planning.planned_world import plan_world
from neox_code.planning.smaller_layout import compute_memory, find_smaller_layout, fits_in_memory

CONFIGS = Path(__file__).parents[2] / "configs"
ENTRIES = 50257


def propose_layout(name, gpu_memory_gib, **keys):
    config = NeoXConfig.load([CONFIGS / f"{name}.yml"], keys)
    return config, find_smaller_layout(config, plan_world(config), gpu_memory_gib, ENTRIES)


@pytest.mark.parametrize(
    ("name", "gpu_memory_gib", "keys", "changed"),
    [
        ("small", 9, {}, {"train_micro_batch_size_per_gpu"}),
        ("2-7B", 49.5, {}, {"train_micro_batch_size_per_gpu", "checkpoint_activations"}),
        ("2-7B", 51, {}, {"checkpoint_activations"}),
        ("2-7B", 40, {"global_num_gpus": 8}, {}),
        ("2-7B", 24, {}, {"model_parallel_size"}),
        ("2-7B", 16, {"global_num_gpus": 2}, None),
        ("2-7B", 13, {"global_num_gpus": 16}, {"model_parallel_size", "checkpoint_activations"}),
        ("2-7B", 6, {"model_parallel_size": 8}, {"pipe_parallel_size", "train_micro_batch_size_per_gpu"}),
    ],
)
def test_the_proposal_passes_the_same_check(name, gpu_memory_gib, keys, changed):
    config, proposal = propose_layout(name, gpu_memory_gib, **keys)
    before = Layout.from_config(config, plan_world(config).ranks)
    if changed is None:
        assert proposal is None
        return
    assert proposal.changes.keys() == set(changed)
    again = NeoXConfig.load([CONFIGS / f"{name}.yml"], {**keys, **proposal.changes})
    world = plan_world(again)
    after = Layout.from_config(again, world.ranks)
    assert fits_in_memory(compute_memory(again, after, ENTRIES), gpu_memory_gib)
    assert fits_in_memory(compute_memory(config, before, ENTRIES), gpu_memory_gib) == (not changed)
    samples = [layout.micro_batch_size * layout.accumulation_steps * layout.data_size for layout in (before, after)]
    assert samples[0] == samples[1]
