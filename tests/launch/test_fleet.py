"""Runs on several hosts: what starts the agents, what travels, and, on hosts that NEOX_CODE_TEST_HOSTS makes, that it all works.

NEOX_CODE_TEST_HOSTS names a program: `up 2` makes the hosts node0 and node1, `exec NODE COMMAND...` runs a command on one,
`cut NODE` and `mend NODE` take it off the network and back, `down` removes them.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neox_code.errors import LaunchError
from neox_code.launch import fleet
from neox_code.launch.fleet import find_own_addresses, make_agent_command, make_launcher_command, select_variables, write_key
from neox_code.launch.stop_signals import ECHO_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("launcher", ["pdsh", "openmpi", "mpich", "slurm"])
def test_every_launcher_starts_one_agent_a_host(launcher, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: program)
    command, _ = make_launcher_command(launcher, ["node0", "node1"], ["python", "agent of the run"])
    assert command[0] == fleet.PROGRAMS[launcher][0]
    assert ("'agent of the run'" in command[-1]) if launcher == "pdsh" else command[-2:] == ["python", "agent of the run"]
    if launcher == "pdsh":
        assert command[-1].endswith(" --node=%n")
    assert any("node0" in word and "node1" in word for word in command)


def test_a_launcher_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(LaunchError, match=r"^launcher slurm needs srun, which is not installed here\."):
        make_launcher_command("slurm", ["node0"], [])


def test_secrets_travel_beside_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "nobody")
    (tmp_path / ".deepspeed_env").write_text("# of the cluster\nGLOO_SOCKET_IFNAME=eth0\n\nA=b=c\n")
    found = select_variables({"WANDB_API_KEY": "secret", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "1", "GLOO_SOCKET_IFNAME": "lo"})
    assert found == {"WANDB_API_KEY": "secret", "GLOO_SOCKET_IFNAME": "eth0", "A": "b=c"}
    (tmp_path / ".deepspeed_env").write_text("A\n")
    with pytest.raises(LaunchError, match=r"\.deepspeed_env:1 \(A\) is not NAME=VALUE"):
        select_variables({})
    (tmp_path / ".deepspeed_env").write_bytes(b"A=\xff\n")
    with pytest.raises(LaunchError, match=r"\.deepspeed_env is not a text file in UTF-8"):
        select_variables({})


def test_only_the_owner_can_read_the_key_and_a_read_only_folder_is_reported(tmp_path):
    path = write_key(b"secret", tmp_path)
    assert (path.parent, path.stat().st_mode & 0o777, path.read_bytes()) == (tmp_path, 0o600, b"secret")
    assert "secret" not in " ".join(make_agent_command("10.0.0.1:4000", path))
    with pytest.raises(LaunchError, match=r"none cannot be written \(No such file or directory\).* Start it in a folder"):
        write_key(b"secret", tmp_path / "none")


def test_percent_signs_are_escaped_for_pdsh(monkeypatch):
    """pdsh replaces %h, %n and %u in the words, and %% by %."""
    monkeypatch.setattr(shutil, "which", lambda program: program)
    command, _ = make_launcher_command("pdsh", ["node0"], ["env", "-C", "/home/me/100%h"])
    assert command[-1] == "env -C /home/me/100%%h --node=%n"


def test_loopback_addresses_are_used_only_if_all_hosts_are_this_machine():
    assert find_own_addresses(["127.0.0.1", "no.invalid"]) == ["127.0.0.1"]
    with_other = find_own_addresses(["127.0.0.1", "192.0.2.1"])  # no packet is sent
    assert with_other == ["127.0.0.1"] or not any(address.startswith("127.") for address in with_other)


WORD = "a $b 'c'"
"""A word that a shell would take apart."""

PDSH = """#!/bin/sh
# what pdsh does, on this machine: -S -f 1024 -w HOSTS COMMAND
i=0
for host in $(echo "$5" | tr , ' '); do
    sh -c "$(echo "$6" | sed "s/%n/$i/;s/%%/%/g")" &
    i=$((i + 1))
done
wait
"""

RANK = """
import os, signal, sys, time
from pathlib import Path
from neox_code.errors import EXIT_RESUME, DataError
from neox_code.launch.stop_signals import StopRequest
from neox_code.launch.rank_process import run_rank

stop = StopRequest()

def main(argv):
    rank = os.environ["RANK"]
    words = (*(os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "WANDB_API_KEY")), str(argv))
    Path(f"rank{rank}.new").write_text(" ".join(words))
    Path(f"rank{rank}.new").rename(f"rank{rank}")
    while not all(Path(f"rank{number}").exists() for number in (0, 1)):
        time.sleep(0.05)
    is_last = rank == "1"
    if "user-error" in argv and is_last:
        raise DataError("the corpus is empty. Name another.")
    if "kill" in argv and is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    if "stop" in argv and is_last:
        os.kill(int(os.environ["NEOX_CODE_LAUNCHER"].partition(":")[0]), signal.SIGTERM)  # this host's agent
    stop.defer(600)
    while argv[0] == "hang" or argv[0] != "well" and not stop.is_requested:
        time.sleep(0.05)
    return EXIT_RESUME if stop.is_requested else 0

stop.start()
sys.exit(run_rank(main, sys.argv[1:]))
"""

RUN = """
import json, sys
from neox_code.launch.supervise import run
sys.exit(run(json.loads(sys.argv[1]), stop_timeout=600))
"""


@pytest.mark.parametrize(
    ("behavior", "status", "last_line"),
    [
        ("well", 0, None),
        ("user-error", 2, "error: 127.0.0.1: the corpus is empty. Name another."),
        ("kill", 137, "error: 127.0.0.1: a process was ended by SIGKILL. If nobody killed it"),
        ("stop", 75, "stopped. Rerun the same command to resume (exit status 75)."),
    ],
)
def test_ranks_of_several_hosts_end_together_with_the_error_of_the_one_that_failed(tmp_path, behavior, status, last_line):
    (tmp_path / "ranks_of_this_test.py").write_text(RANK)
    (tmp_path / "pdsh").write_text(PDSH)
    (tmp_path / "pdsh").chmod(0o755)
    command = [
        *(
            sys.executable,
            "-m",
            "neox_code.launch.fleet",
            "--launcher=pdsh",
            '--hosts={"localhost": ["0"], "127.0.0.1": ["0"]}',
            "--stop_timeout=600",
        ),
        *("--module", "ranks_of_this_test", behavior, WORD),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_API_KEY": "secret"}
    words = [sys.executable, "-c", RUN, json.dumps(command)]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=50)
    assert ended.returncode == status
    assert not list(tmp_path.glob(".neox-code-key-*"))
    for rank in (0, 1):
        assert (tmp_path / f"rank{rank}").read_text() == f"{rank} 2 127.0.0.1 secret {[behavior, WORD]}"
    if last_line:
        assert ended.stderr.splitlines()[-1].startswith(last_line)


@pytest.fixture
def started(tmp_path):
    """Starts a run of two hosts, both this machine, whose ranks wait for a signal."""
    (tmp_path / "ranks_of_this_test.py").write_text(RANK)
    (tmp_path / "pdsh").write_text(PDSH)
    (tmp_path / "pdsh").chmod(0o755)
    command = [
        *(sys.executable, "-m", "neox_code.launch.fleet", "--launcher=pdsh", "--stop_timeout=600"),
        *('--hosts={"localhost": ["0"], "127.0.0.1": ["0"]}', "--module", "ranks_of_this_test"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_API_KEY": ""}
    runs = []

    def start(*words):
        text = [sys.executable, "-c", RUN, json.dumps([*command, *words])]
        runs.append(subprocess.Popen(text, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True))
        until = time.monotonic() + 60
        while not all((tmp_path / f"rank{rank}").exists() for rank in (0, 1)):
            assert time.monotonic() < until
            time.sleep(0.05)
        return runs[-1]

    yield start
    for run in runs:
        run.kill()
        run.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_stops_the_ranks_of_all_hosts_with_the_status_to_resume(started, number):
    run = started("wait")
    run.send_signal(number)
    errors = run.communicate(timeout=600)[1]
    assert (run.returncode, errors.splitlines()[-1]) == (
        75,
        f"stopped by {number.name}. Rerun the same command to resume (exit status 75).",
    )


def test_a_second_signal_ends_the_ranks_of_all_hosts_at_once(started):
    run = started("hang")
    run.send_signal(signal.SIGTERM)
    time.sleep(2 * ECHO_SECONDS)
    assert run.poll() is None
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 143


LAUNCHERS = ("pdsh", "openmpi", "mpich")


@pytest.fixture(scope="module")
def hosts():
    """Three hosts; yields the program that made them."""
    program = os.environ.get("NEOX_CODE_TEST_HOSTS")
    if not program:
        pytest.skip("NEOX_CODE_TEST_HOSTS names no program that makes hosts")
    subprocess.run([program, "up", "3"], check=True, timeout=600)
    yield program
    subprocess.run([program, "down"], check=True, timeout=60)


@pytest.fixture
def train(hosts, job, tmp_path):
    """Starts a training on node0 and node1, from node0 or another; keywords change keys. All that it started ends with the test."""
    (tmp_path / "hostfile").write_text("node0 slots=2\nnode1 slots=2\n")
    begun = []

    def begin(launcher=None, head="node0", **keys):
        if launcher is not None and next(filter(shutil.which, fleet.PROGRAMS[launcher]), None) is None:
            pytest.skip(f"{launcher} is not installed")
        on_hosts = {"num_gpus": 4} if launcher is None else {"hostfile": "hostfile", "launcher": launcher}
        path = job(pipe_parallel_size=2, model_parallel_size=2, **on_hosts, **keys)
        command = [sys.executable, str(ROOT / "deepy.py"), "train", str(path)]
        begun.append(subprocess.Popen(
            command if launcher is None else [hosts, "exec", head, *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ))  # fmt: skip
        return begun[-1]

    yield begin
    subprocess.run([hosts, "mend", "node1"], check=True)
    for run in begun:
        run.terminate()
        run.communicate()


@pytest.fixture
def left_on_hosts(hosts):
    """The command lines of a run that are still there after so many seconds."""

    def wait(seconds):
        until = time.monotonic() + seconds
        words = ["pgrep", "-af", "neox_code|deepspeed|orted|hydra|@notty"]
        while True:
            found = [subprocess.run([hosts, "exec", f"node{i}", *words], capture_output=True, text=True).stdout for i in (0, 1)]
            if not any(found) or time.monotonic() > until:
                return "".join(found)
            time.sleep(0.5)

    return wait


def losses(text):
    return re.findall(r"iteration (\d+) \| loss ([\d.]+)", text)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_hosts_of_two_ranks_train_to_the_losses_of_four_local_ranks(train, launcher, left_on_hosts):
    output = train(launcher).communicate(timeout=600)[0]
    alone = train().communicate(timeout=600)[0]
    assert len(losses(alone)) >= 6
    assert losses(output) == losses(alone)
    assert left_on_hosts(2) == ""


FAULTS = {
    "Ctrl-C": (
        ("exec", "node0", "pkill", "-INT", "-f", "deepy.py train"),
        75,
        "stopped by SIGINT. Rerun the same command to resume",
    ),
    "a host is cut off": (("cut", "node1"), 1, "error: node1 has sent no heartbeat for 10 s"),
    "a rank is killed": (
        ("exec", "node1", "pkill", "-KILL", "-n", "-f", "u -m neox_code.commands.train"),
        137,
        "error: node1: a process was ended by SIGKILL",
    ),
    "the launcher is killed": (
        ("exec", "node0", "pkill", "-KILL", "-o", "-f", "^(/[^ ]*/)?(pdsh|mpirun|mpiexec)"),
        137,
        "error: {launcher} ended by SIGKILL. Rerun the same command.",
    ),
}
"""What happens in mid-run, the status of the run that follows, and its last line."""


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_the_run_on_all_hosts(train, hosts, left_on_hosts, launcher, fault):
    command, status, last_line = FAULTS[fault]
    run = train(launcher, train_iters=9000, eval_interval=100000)
    assert any("iteration 3 " in line for line in run.stdout)
    begin = time.monotonic()
    subprocess.run([hosts, *command], check=True)
    output = run.communicate(timeout=600)[0]
    assert time.monotonic() - begin < 30
    assert run.returncode == status
    assert output.splitlines()[-1].startswith(last_line.format(launcher=launcher))
    subprocess.run([hosts, "mend", "node1"], check=True)
    assert left_on_hosts(15 if "cut" in command else 2) == ""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_host_that_is_down_at_the_start_is_named(train, hosts, left_on_hosts, launcher):
    subprocess.run([hosts, "cut", "node1"], check=True)
    begin = time.monotonic()
    run = train(launcher)
    output = run.communicate(timeout=600)[0]
    assert time.monotonic() - begin < 35
    assert (run.returncode, losses(output)) == (255 if launcher == "openmpi" else 1, [])  # mpirun gives up before its time is over
    assert re.match("error: node1 did not answer within 20 s|error: openmpi ended .* node1 answered", output.splitlines()[-1])
    assert left_on_hosts(2) == ""


def test_a_head_outside_the_hosts_does_not_check_their_data(train, hosts):
    """The hosts share their files with this machine, so what a host lacks is lacking here as well."""
    run = train("pdsh", head="node2", vocab_file="nowhere.json")
    output = run.communicate(timeout=600)[0]
    assert run.returncode == 2
    assert re.match(r"error: node[01]: .*nowhere\.json", output.splitlines()[-1])
