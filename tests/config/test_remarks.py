"""Values that are allowed and probably not meant."""

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.config.remarks import list_remarks
from neox_code.training.schedule import compute_scheduled_rate

SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("keys", "zero"),
    [
        ({"lr_decay_iters": 60}, 40),
        ({"lr_decay_iters": 60, "lr_decay_style": "cosine"}, 40),
        ({"lr_decay_fraction": 0.5, "lr_decay_style": "wsd"}, 50),
        ({"lr_decay_iters": 60, "min_lr": 1e-5}, 0),
        ({"lr_decay_iters": 60, "lr_decay_style": "constant"}, 0),
        ({"lr_decay_iters": 100}, 0),
        ({}, 0),
    ],
)
def test_steps_at_rate_zero_are_counted_by_the_schedule(keys, zero):
    config = NeoXConfig.load([], SHAPE | {"lr": 1e-3, "train_iters": 100} | keys)
    rates = [compute_scheduled_rate(updates, config.optimizer, 100) for updates in range(100)]
    assert rates.count(0.0) == zero
    assert [sentence.split(" of ")[0] for sentence in list_remarks(config)] == [f"the last {zero} "[:-1]] * bool(zero)
