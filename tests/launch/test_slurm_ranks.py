import socket

import pytest

from neox_code.errors import LaunchError
from neox_code.launch.slurm_ranks import choose_master_host, set_rank_variables

TASK = {
    "SLURM_JOB_ID": "40012",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[7-8]",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
}


def resolve(monkeypatch: pytest.MonkeyPatch, *known: str) -> None:
    def getaddrinfo(host: str, port: object) -> list[object]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_task_of_srun_is_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "gpu7")
    environment = dict(TASK)
    set_rank_variables(environment)
    assert {name: value for name, value in environment.items() if name not in TASK} == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu7",
        "MASTER_PORT": "10012",
    }


@pytest.mark.parametrize(("visible", "local_rank"), [(("5",), "0"), (("0", "1"), "1"), ((), "1")])
def test_a_task_that_sees_one_gpu_uses_it(monkeypatch: pytest.MonkeyPatch, visible: tuple[str, ...], local_rank: str) -> None:
    resolve(monkeypatch, "gpu7")
    monkeypatch.setattr("neox_code.launch.slurm_ranks.find_visible_gpus", lambda: visible)
    environment = dict(TASK)
    set_rank_variables(environment)
    assert environment["LOCAL_RANK"] == local_rank


def test_variables_that_are_already_set_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch)
    environment = {**TASK, "MASTER_ADDR": "10.1.1.1", "MASTER_PORT": "29500"}
    del environment["SLURM_LAUNCH_NODE_IPADDR"]
    set_rank_variables(environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("10.1.1.1", "29500")


@pytest.mark.parametrize("other", [{"RANK": "0"}, {"SLURM_STEP_NUM_TASKS": None}])
def test_ranks_of_other_launchers_and_batch_scripts_are_not_changed(other: dict[str, str | None]) -> None:
    environment = {name: value for name, value in {**TASK, **other}.items() if value is not None}
    before = dict(environment)
    set_rank_variables(environment)
    assert environment == before


def test_a_single_task_meets_nobody() -> None:
    environment = {**TASK, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
    set_rank_variables(environment)
    assert "MASTER_ADDR" not in environment


def test_a_name_that_only_slurm_resolves_is_replaced_by_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch)
    assert choose_master_host(TASK) == "10.0.0.7"
    with pytest.raises(LaunchError, match=r"cannot resolve the job's first host \(gpu7\). Set MASTER_ADDR"):
        choose_master_host({"SLURM_STEP_NODELIST": "gpu[7-8]"})


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    resolve(monkeypatch, "gpu7")
    environment = {**TASK, name: value} if value is not None else {key: text for key, text in TASK.items() if key != name}
    with pytest.raises(LaunchError, match=rf"^{name} is not set, but Slurm sets it in every job\. Start the run by sbatch, srun"):
        set_rank_variables(environment)


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID"])
@pytest.mark.parametrize("value", ["-1", "two", "1.0", "٣"])
def test_a_variable_that_is_no_number_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    resolve(monkeypatch, "gpu7")
    with pytest.raises(LaunchError, match=rf"^{name} \({value}\) must be a whole number"):
        set_rank_variables({**TASK, name: value})


def test_a_task_outside_its_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LaunchError, match=r"^SLURM_PROCID \(4\) must be less than SLURM_STEP_NUM_TASKS \(4\)"):
        set_rank_variables({**TASK, "SLURM_PROCID": "4"})


def test_the_nodes_of_the_job_are_used_if_those_of_the_step_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "node01")
    environment = {**TASK, "SLURM_JOB_NODELIST": "node[01-03,07]"}
    del environment["SLURM_STEP_NODELIST"]
    set_rank_variables(environment)
    assert environment["MASTER_ADDR"] == "node01"
