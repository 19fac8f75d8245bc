"""Fine-tuning on several ranks against one, packed against padded, and resuming against not stopping."""

from pathlib import Path

import pytest
from finetuning_job import losses_of_finetuning, write_finetuning

from neox_code.training.trackers import read_metrics


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finetuning(tmp_path_factory.mktemp("finetuning"))


@pytest.fixture(scope="module")
def alone(file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    save = tmp_path_factory.mktemp("alone")
    return {
        "packed": losses_of_finetuning(1, file, save / "packed", valid_share=0.2),
        "padded": losses_of_finetuning(1, file, save / "padded", pack_rows=False),
    }


@pytest.mark.parametrize(
    ("world_size", "keys"), [(2, {}), (2, {"pipe_parallel_size": 2}), (2, {"model_parallel_size": 2, "sequence_parallel": True})]
)
def test_every_layout_gives_the_losses_of_one_process(file, tmp_path, alone, world_size, keys):
    assert losses_of_finetuning(world_size, file, tmp_path / "padded", pack_rows=False, **keys) == pytest.approx(
        alone["padded"], abs=5e-6
    )
    if "pipe_parallel_size" in keys:
        packed = losses_of_finetuning(world_size, file, tmp_path / "packed", valid_share=0.2, **keys)
        assert packed == pytest.approx(alone["packed"], abs=5e-6)


def test_a_resumed_run_equals_the_uninterrupted_one(file, tmp_path, alone):
    keys = {"valid_share": 0.2}
    losses_of_finetuning(1, file, tmp_path, exit_interval=2, **keys)
    assert losses_of_finetuning(1, file, tmp_path, **keys) == alone["packed"]
    validations = [row["validation/lm_loss"] for row in read_metrics(tmp_path / "metrics.jsonl") if "validation/lm_loss" in row]
    assert len(validations) == 2
    assert validations[1] < validations[0]


def test_training_ends_when_validation_stops_falling_and_the_best_checkpoint_stays(file, tmp_path):
    """With a rate at which the loss rises, the first validation is the best."""
    keys = {"early_stop_evaluations": 2, "keep_best_checkpoint": True, "keep_last_n_checkpoints": 1, "train_iters": 40}
    losses = losses_of_finetuning(
        1, file, tmp_path, valid_share=0.2, eval_interval=1, max_spike_steps=None, **keys, **{"optimizer.params.lr": 3.0}
    )
    validations = [row["validation/lm_loss"] for row in read_metrics(tmp_path / "metrics.jsonl") if "validation/lm_loss" in row]
    best = validations.index(min(validations)) + 1
    assert len(losses) == len(validations) == best + 2
    assert {path.name for path in tmp_path.glob("global_step*")} == {f"global_step{best}", f"global_step{best + 2}"}
    assert (tmp_path / "best").resolve().name == f"global_step{best}"
