"""The commands of the launchers, and that the one of a host runs them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError, LaunchError
from neox_code.launch.command import choose_port, describe_placement, make_launch_command, make_launch_environment
from neox_code.launch.hosts import resolve_hostfile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    shape = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
    return lambda **keys: NeoXConfig.load([], {**shape, **keys})


def option(command, name):
    return next(word.partition("=")[2] for word in command if word.startswith(f"--{name}="))


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_ranks_of_this_machine_are_one_for_each_device(config):
    command = make_launch_command("some.module", ["a.yml", "--set=lr=1"], config(num_gpus=3))
    assert command[:4] == [sys.executable, "-u", "-m", "neox_code.launch.ranks"]
    assert command[-4:] == ["--module", "some.module", "a.yml", "--set=lr=1"]
    assert json.loads(option(command, "hosts")) == {"localhost": ["0", "1", "2"]}


def test_several_hosts_are_started_by_the_fleet(config, tmp_path):
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("node0 slots=2\nnode1 slots=2\n")
    keys = {"hostfile": str(hostfile), "launcher": "openmpi"}
    command = make_launch_command("some.module", ["a.yml"], config(**keys))
    hosts = {"node0": ["0", "1"], "node1": ["0", "1"]}
    assert command[3:] == [
        *("neox_code.launch.fleet", "--launcher=openmpi", f"--hosts={json.dumps(hosts)}", "--stop_timeout=600.0"),
        *("--module", "some.module", "a.yml"),
    ]
    part = make_launch_command("some.module", [], config(**keys, exclude="node1:0", master_addr="node0", master_port=1234))
    assert json.loads(option(part, "hosts")) == {"node0": ["0", "1"], "node1": ["1"]}
    assert (option(part, "master_addr"), option(part, "master_port")) == ("node0", "1234")
    fewer = make_launch_command("some.module", [], config(**keys, num_gpus=1))
    assert json.loads(option(fewer, "hosts")) == {"node0": ["0"], "node1": ["0"]}


@pytest.mark.parametrize(("key", "launcher"), [("deepspeed_slurm", "slurm"), ("deepspeed_mpi", "openmpi")])
def test_deepspeeds_own_keys_choose_the_launcher(config, tmp_path, key, launcher):
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("node0 slots=2\n")
    assert option(make_launch_command("some.module", [], config(hostfile=str(hostfile), **{key: True})), "launcher") == launcher


def test_the_hosts_of_the_ranks_are_reported_if_the_configuration_does_not_show_them(config, tmp_path, monkeypatch):
    assert list(describe_placement(config())) == []
    (line,) = describe_placement(config(deepspeed_slurm=True))
    assert line.startswith("deepspeed_slurm (true, --set) is for several machines: without a hostfile or a job of several nodes")
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("node0 slots=2\n")
    monkeypatch.setenv("DLTS_HOSTFILE", str(hostfile))
    (line,) = describe_placement(resolve_hostfile(config(launcher="openmpi")))
    assert line == f"hostfile {hostfile} (DLTS_HOSTFILE) names the run's hosts"


def test_ranks_must_be_a_multiple_of_the_models_layout(config):
    with pytest.raises(ConfigError, match=r"^3 ranks are not a multiple of .* = 2 \* 2 = 4\."):
        make_launch_command("some.module", [], config(num_gpus=3, pipe_parallel_size=2, model_parallel_size=2))


def test_a_hostfile_with_another_number_of_ranks_than_configured_is_refused(config, tmp_path):
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("node0 slots=2\n")
    with pytest.raises(LaunchError, match=r"^global_num_gpus \(4, --set\) differs from the 2 ranks"):
        make_launch_command("some.module", [], config(hostfile=str(hostfile), global_num_gpus=4))


def test_a_default_port_in_use_is_changed_and_a_configured_one_is_refused(config, taken_port):
    port = choose_port(taken_port, is_default=True)
    assert port != taken_port
    with socket.socket() as probe:
        probe.bind(("", port))
    with pytest.raises(LaunchError, match=f"^master_port {taken_port} is in use on this host"):
        make_launch_command("some.module", [], config(master_port=taken_port))


def test_the_cores_are_shared_among_the_ranks(config, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)))
    assert make_launch_environment(config(num_gpus=3))["OMP_NUM_THREADS"] == "5"
    assert make_launch_environment(config(num_gpus=32))["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in make_launch_environment(config(num_gpus=3))


def test_ranks_of_one_host_use_the_loopback_interface(config, monkeypatch, tmp_path):
    for name in ("GLOO_SOCKET_IFNAME", "TORCH_CPP_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    assert make_launch_environment(config(num_gpus=2)).get("GLOO_SOCKET_IFNAME") == "lo"
    (tmp_path / "hosts").write_text("192.0.2.1 slots=1\n192.0.2.2 slots=1\n")
    assert "GLOO_SOCKET_IFNAME" not in make_launch_environment(config(hostfile=str(tmp_path / "hosts")))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    assert "GLOO_SOCKET_IFNAME" not in make_launch_environment(config(num_gpus=2))


RANK = """
import os, sys
from neox_code.errors import DataError
from neox_code.launch.rank_process import run_rank

def main(argv):
    sys.stdout.write(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} got {argv}\\n")
    if os.environ["RANK"] == "1":
        raise DataError("the corpus is empty. Name another.")
    return 0

sys.exit(run_rank(main, sys.argv[1:]))
"""

RUN = """
import json, sys
from neox_code.launch.supervise import run
sys.exit(run(json.loads(sys.argv[1])))
"""


def test_a_rank_that_fails_gives_its_status_and_its_error(config, tmp_path):
    (tmp_path / "ranks_of_this_test.py").write_text(RANK)
    command = make_launch_command("ranks_of_this_test", ["a b", "c"], config(num_gpus=2))
    words = [sys.executable, "-c", RUN, json.dumps(command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "rank 1 of 2 got ['a b', 'c']" in ended.stdout.splitlines()
    assert ended.stderr.splitlines()[-1] == "error: the corpus is empty. Name another."
