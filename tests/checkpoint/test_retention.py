"""Which checkpoints a save deletes, and what it leaves in their folders."""

from pathlib import Path

import pytest
from distributed_runs import losses_of

from neox_code.checkpoint.layout import list_checkpoints, make_partial_step_name, make_step_name
from neox_code.checkpoint.retention import delete_old_checkpoints


def folders(save: Path, *iterations: int) -> None:
    for iteration in iterations:
        (save / make_step_name(iteration)).mkdir()


@pytest.mark.parametrize(
    ("latest", "keep_last", "deleted"),
    [
        (300, 3, []),
        (300, 2, [100]),
        (300, 1, [100, 200]),
        (200, 1, [100]),
        (200, 2, []),
        (100, 1, []),
        (300, None, []),
        (300, 0, []),
    ],
)
def test_checkpoints_up_to_the_latest_are_counted(tmp_path, latest, keep_last, deleted):
    folders(tmp_path, 100, 200, 300)
    assert delete_old_checkpoints(tmp_path, latest, keep_last) == deleted
    assert list(list_checkpoints(tmp_path)) == [iteration for iteration in (100, 200, 300) if iteration not in deleted]


def test_a_run_from_an_earlier_iteration_keeps_its_checkpoints(tmp_path):
    folders(tmp_path, 100, 200, 300)
    for iteration, there in [(150, [100, 150, 200, 300]), (180, [100, 150, 180, 200, 300]), (200, [150, 180, 200, 300])]:
        (tmp_path / make_step_name(iteration)).mkdir(exist_ok=True)
        delete_old_checkpoints(tmp_path, iteration, 3)
        assert list(list_checkpoints(tmp_path)) == there


def test_a_save_removes_the_partial_folder_of_a_killed_save(job, tmp_path):
    save = tmp_path / "save"
    (save / make_partial_step_name(7)).mkdir(parents=True)
    losses_of(1, job(train_iters=1, eval_iters=0), save)
    assert [path.name for path in save.glob("global_step*")] == [make_step_name(1)]
    assert (save / "latest").read_text().strip() == make_step_name(1)
