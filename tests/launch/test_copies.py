"""Launchers that start ./deepy.py instead of ranks."""

import pytest

from neox_code.errors import LaunchError
from neox_code.launch.copies import require_one_copy


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3"}, "srun python -m neox_code.commands.train a.yml '--set=x=[1, 2]'"),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
            "torchrun --nproc-per-node=N -m neox_code.commands.train a.yml",
        ),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "torchrun --nproc-per-node=N -m neox_code.commands.train a.yml"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "torchrun --nproc-per-node=N -m neox_code.commands.train a.yml"),
    ],
)
def test_copies_are_refused_with_the_command_that_starts_ranks(environment, command):
    with pytest.raises(LaunchError, match="copies of") as caught:
        require_one_copy(environment, ["a.yml", "--set=x=[1, 2]"])
    assert command in str(caught.value)


@pytest.mark.parametrize(
    "environment",
    [{}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, {"WORLD_SIZE": "8"}],
)
def test_a_single_process_and_a_batch_script_may_start_a_run(environment):
    require_one_copy(environment, ["a.yml"])
