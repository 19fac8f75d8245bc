"""Runs on several hosts: what starts the agents, what travels, and, on hosts that NEOX_CODE_TEST_HOSTS makes, that it all works.

NEOX_CODE_TEST_HOSTS names a program: `up 2` makes the hosts node0 and node1, `exec NODE COMMAND...` runs a command on one,
`cut NODE` and `mend NODE` take it off the network and back, `down` removes them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neox_code.errors import LaunchError
from neox_code.launch import fleet
from neox_code.launch.fleet import exported, launcher_command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("launcher", ["pdsh", "openmpi", "mpich", "slurm"])
def test_every_launcher_starts_one_agent_a_host(launcher, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: program)
    command, _ = launcher_command(launcher, ["node0", "node1"], ["python", "agent of the run"])
    assert command[0] == fleet.PROGRAMS[launcher][0]
    assert ("'agent of the run'" in command[-1]) if launcher == "pdsh" else command[-2:] == ["python", "agent of the run"]
    if launcher == "pdsh":
        assert command[-1].endswith(" --node=%n")
    assert any("node0" in word and "node1" in word for word in command)


def test_a_launcher_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(LaunchError, match=r"^launcher slurm needs srun, which is not installed here\."):
        launcher_command("slurm", ["node0"], [])


def test_secrets_travel_beside_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "nobody")
    (tmp_path / ".deepspeed_env").write_text("GLOO_SOCKET_IFNAME=eth0\n\nA=b=c\n")
    found = exported({"WANDB_API_KEY": "secret", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "1", "GLOO_SOCKET_IFNAME": "lo"})
    assert found == {"WANDB_API_KEY": "secret", "GLOO_SOCKET_IFNAME": "eth0", "A": "b=c"}
    (tmp_path / ".deepspeed_env").write_text("A\n")
    with pytest.raises(LaunchError, match=r"\.deepspeed_env:1 \(A\) is not NAME=VALUE"):
        exported({})


WORD = "a $b 'c'"
"""A word that a shell would take apart."""

PDSH = """#!/bin/sh
# what pdsh does, on this machine: -S -f 1024 -w HOSTS COMMAND
i=0
for host in $(echo "$5" | tr , ' '); do
    sh -c "$(echo "$6" | sed "s/%n/$i/")" &
    i=$((i + 1))
done
wait
"""

RANK = """
import os, signal, sys, time
from neox_code.errors import DataError
from neox_code.launch.supervise import run_rank

def main(argv):
    print("rank", *(os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "WANDB_API_KEY")), argv, flush=True)
    is_last = os.environ["RANK"] == "1"
    if "user-error" in argv and is_last:
        raise DataError("the corpus is empty. Name another.")
    if "kill" in argv and is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    if argv[0] != "well":
        time.sleep(60)
    return 0

sys.exit(run_rank(main, sys.argv[1:]))
"""

RUN = """
import json, sys
from neox_code.launch.supervise import run
sys.exit(run(json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("behavior", "status", "last_line"),
    [
        ("well", 0, None),
        ("user-error", 2, "error: 127.0.0.1: the corpus is empty. Name another."),
        ("kill", 137, "error: 127.0.0.1: a process was ended by SIGKILL. If nobody killed it"),
    ],
)
def test_ranks_of_several_hosts_end_together_with_the_error_of_the_one_that_failed(tmp_path, behavior, status, last_line):
    (tmp_path / "ranks_of_this_test.py").write_text(RANK)
    (tmp_path / "pdsh").write_text(PDSH)
    (tmp_path / "pdsh").chmod(0o755)
    command = [
        *(sys.executable, "-m", "neox_code.launch.fleet", "--launcher=pdsh", "--hosts=localhost:0@127.0.0.1:0"),
        *("--module", "ranks_of_this_test", behavior, WORD),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_API_KEY": "secret"}
    words = [sys.executable, "-c", RUN, json.dumps(command)]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=50)
    assert ended.returncode == status
    said = [line for line in ended.stdout.splitlines() if line.startswith("rank")]
    assert sorted(said) == [f"rank {rank} 2 127.0.0.1 secret {[behavior, WORD]}" for rank in (0, 1)]
    if last_line:
        assert ended.stderr.splitlines()[-1].startswith(last_line)


@pytest.fixture(scope="module")
def hosts():
    """Two hosts; yields the program that made them."""
    program = os.environ.get("NEOX_CODE_TEST_HOSTS")
    if not program:
        pytest.skip("NEOX_CODE_TEST_HOSTS names no program that makes hosts")
    subprocess.run([program, "up", "2"], check=True, timeout=120)
    yield program
    subprocess.run([program, "down"], check=True, timeout=60)


@pytest.fixture
def train(hosts, job, tmp_path):
    """Starts the training of the small job from node0; keywords change keys."""
    (tmp_path / "hostfile").write_text("node0 slots=2\nnode1 slots=2\n")

    def begin(*words, here=False, **keys):
        path = job(pipe_parallel_size=2, model_parallel_size=2, **keys)
        command = [sys.executable, str(ROOT / "deepy.py"), "train", str(path), *words]
        return subprocess.Popen(
            command if here else [hosts, "exec", "node0", *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def losses(text):
    return re.findall(r"iteration (\d+) \| loss ([\d.]+)", text)


@pytest.mark.parametrize("launcher", ["pdsh", "openmpi", "mpich"])
def test_two_hosts_of_two_ranks_train_to_the_losses_of_four_local_ranks(train, launcher):
    if next(filter(shutil.which, fleet.PROGRAMS[launcher]), None) is None:
        pytest.skip(f"{launcher} is not installed")
    output = train("--set", "hostfile=hostfile", "--set", f"launcher={launcher}").communicate(timeout=120)[0]
    alone = train("--set", "num_gpus=4", here=True).communicate(timeout=120)[0]
    assert len(losses(alone)) >= 6
    assert losses(output) == losses(alone)


def test_a_host_that_is_cut_off_ends_the_run(train, hosts):
    run = train("--set", "hostfile=hostfile", train_iters=9000, eval_interval=100000)
    assert any("iteration 3 " in line for line in run.stdout)
    subprocess.run([hosts, "cut", "node1"], check=True)
    begin = time.monotonic()
    output = run.communicate(timeout=60)[0]
    subprocess.run([hosts, "mend", "node1"], check=True)
    assert time.monotonic() - begin < 30
    assert run.returncode == 1
    assert output.splitlines()[-1].startswith("error: node1 has not been heard of for 10 s")
