"""The ranks that a configuration plans for, independent of this machine."""

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.planning.planned_world import plan_world

SHAPE = {"num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
GRID = {"pipe_parallel_size": 2, "model_parallel_size": 2}


@pytest.mark.parametrize(
    ("keys", "ranks", "reason"),
    [
        ({"global_num_gpus": 64, **GRID}, 64, "global_num_gpus (64, --set)"),
        ({"num_gpus": 8, "num_nodes": 2}, 16, "num_gpus (8, --set)"),
        ({"num_gpus": 8, "num_nodes": 2, "hostfile": "nowhere"}, 16, "num_gpus (8, --set)"),
        ({"global_num_gpus": 4, "hostfile": "nowhere"}, 4, "global_num_gpus (4, --set)"),
        ({"include": "a:0,1@b:3", "hostfile": "nowhere"}, 3, "include (a:0,1@b:3, --set)"),
        (GRID, 4, "the smallest world of this layout"),
        ({**GRID, "hostfile": "nowhere"}, 4, "the smallest world of this layout"),
        (
            {"train_batch_size": 24, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4},
            3,
            "the smallest world of this layout",
        ),
    ],
)
def test_ranks_are_set_by_keys_or_are_the_fewest_of_the_layout(keys, ranks, reason):
    world = plan_world(NeoXConfig.load([], {**SHAPE, **keys}))
    assert world.ranks == ranks
    assert world.reason.startswith(reason)
    assert world.is_given != reason.startswith("the smallest")


def test_a_readable_hostfile_sets_the_ranks(tmp_path):
    hostfile = tmp_path / "hosts"
    hostfile.write_text("a slots=4\nb slots=4\n")
    world = plan_world(NeoXConfig.load([], {**SHAPE, **GRID, "hostfile": str(hostfile), "num_gpus": 2}))
    assert world.hosts == {"a": ("0", "1"), "b": ("0", "1")}
    assert world.reason == f"hostfile {hostfile}"
