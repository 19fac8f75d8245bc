"""The environment variables of a rank, and the errors for invalid ones."""

import socket
import time

import pytest

from neox_code.config.parallelism import ParallelismConfig
from neox_code.errors import LaunchError
from neox_code.parallel.grid import CPU
from neox_code.parallel.startup import join_process_group, read_rank_variables, wait_for_address

RANK = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def set_variables(monkeypatch):
    """Return a function that sets the variables of a rank; None removes one."""

    def set_all(**changes):
        for name, value in (RANK | changes).items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    return set_all


def test_a_single_process_needs_no_variables(set_variables):
    set_variables(**dict.fromkeys(RANK))
    assert read_rank_variables() == (0, 1, 0)


def test_the_rank_is_read_from_the_environment(set_variables):
    set_variables()
    assert read_rank_variables() == (1, 2, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "x"}, r"^RANK \(x\) must be a whole number\. Start the ranks by"),
        ({"WORLD_SIZE": "-2"}, r"^WORLD_SIZE \(-2\) must be a whole number"),
        ({"LOCAL_RANK": "0.5"}, r"^LOCAL_RANK \(0\.5\) must be a whole number"),
        ({"RANK": "2"}, r"^RANK \(2\) must be less than WORLD_SIZE \(2\)"),
        ({"WORLD_SIZE": "0", "RANK": None}, r"^RANK \(0\) must be less than WORLD_SIZE \(0\)"),
        ({"MASTER_PORT": "abc"}, r"^MASTER_PORT \(abc\) must be a whole number"),
        ({"MASTER_PORT": None}, r"^MASTER_PORT \(not set\) must be a whole number"),
        ({"MASTER_PORT": "99999"}, r"^MASTER_PORT \(99999\) must be a port, 1 to 65535"),
        ({"MASTER_ADDR": None}, r"^MASTER_ADDR \(not set\) must be the address of the first of 2 ranks"),
    ],
)
def test_an_invalid_variable_is_an_error_with_its_value(set_variables, changes, message):
    set_variables(**changes)
    with pytest.raises(LaunchError, match=message):
        read_rank_variables()


def test_a_first_host_without_an_address_is_an_error_with_its_name():
    with pytest.raises(
        LaunchError, match=r"^.* finds no address for MASTER_ADDR \(no-such-host\.invalid\): .*\. Set MASTER_ADDR .* to a name"
    ):
        wait_for_address("no-such-host.invalid", timeout_seconds=0.0)


def test_startup_waits_for_the_address_of_the_first_host(monkeypatch):
    answers = iter([OSError("not yet"), OSError("not yet"), []])

    def getaddrinfo(*arguments):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    wait_for_address("late", timeout_seconds=60.0)
    assert list(answers) == []


def test_a_port_in_use_is_a_launch_error(set_variables):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        set_variables(RANK="0", LOCAL_RANK="0", MASTER_PORT=str(listener.getsockname()[1]))
        with pytest.raises(
            LaunchError, match=r"^rank 0 of 2 on .* could not connect with the others at 127\.0\.0\.1:\d+: .*EADDRINUSE"
        ):
            join_process_group(0, 2, CPU, ParallelismConfig(distributed_timeout_seconds=5))


def test_a_missing_network_interface_is_an_error_with_its_name(set_variables, monkeypatch):
    set_variables(**dict.fromkeys(RANK))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    with pytest.raises(LaunchError, match=r"GLOO_SOCKET_IFNAME \(nosuch0\) must name network interfaces of this host \(.*lo"):
        join_process_group(0, 1, CPU, ParallelismConfig(distributed_timeout_seconds=5))
