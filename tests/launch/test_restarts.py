"""A training that is started again after a failure."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from distributed_runs import losses_of

from neox_code.config.neox import NeoXConfig
from neox_code.errors import EXIT_RESUME, EXIT_USER_ERROR, ConfigError, LaunchError
from neox_code.launch import restarts
from neox_code.launch.hosts import find_resources
from neox_code.launch.restarts import choose_hosts, run_with_restarts
from neox_code.launch.supervise import Ending
from neox_code.training.trackers import read_metrics

ROOT = Path(__file__).parents[2]
SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64, "lr": 0.1}


def test_a_killed_rank_is_replaced_and_training_goes_on_as_if_nothing_had_happened(job, tmp_path):
    save = tmp_path / "save"
    keys = {"train_iters": 12, "checkpoint_factor": 3, "eval_iters": 0, "num_gpus": 2}
    file = job(**keys, save=str(save))
    command = [sys.executable, str(ROOT / "deepy.py"), "train", str(file), "--max-restarts", "2"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = ""
    try:
        for line in run.stdout:
            output += line
            if "saved" in line and "global_step3:" in line:
                ranks = [
                    one for one in psutil.Process(run.pid).children(recursive=True) if "neox_code.commands.train" in one.cmdline()
                ]
                newest = max(ranks, key=lambda one: one.create_time())
                os.kill(newest.pid, signal.SIGKILL)
        assert run.wait(240) == 0, output
    finally:
        run.kill()
        run.stdout.close()
    assert f"restart 1 of at most 2 (exit status 137) from the newest checkpoint in {save}" in output
    rows = read_metrics(save / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == list(range(1, 13))
    assert len({row["start"] for row in rows}) == 2
    assert [row["train/lm_loss"] for row in rows] == losses_of(2, job(**keys), tmp_path / "whole")


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(restarts, "RESTART_SECONDS", 0.0)
    monkeypatch.setattr(restarts, "WAITS", (0.0, 0.0))
    (tmp_path / "hostfile").write_text("".join(f"node{number} slots=2\n" for number in range(4)))
    keys = {"save": str(tmp_path), "hostfile": str(tmp_path / "hostfile"), "train_batch_size": 12, "num_nodes": 3}
    return NeoXConfig.load([], {**SHAPE, **keys, "train_micro_batch_size_per_gpu": 1})


@pytest.mark.parametrize(
    ("statuses", "received", "starts"),
    [
        ([0], None, 1),
        ([EXIT_RESUME], None, 1),
        ([EXIT_USER_ERROR], None, 1),
        ([137], signal.SIGTERM, 1),
        ([1, 137, 0], None, 3),
        ([1, 1, 1, 1], None, 3),
        ([1, EXIT_RESUME], None, 2),
    ],
)
def test_only_failures_are_started_again_and_not_for_ever(config, statuses, received, starts):
    endings = [Ending(status, None, received, False) for status in statuses]
    done = []

    def start(chosen):
        done.append(chosen)
        return endings[len(done) - 1]

    assert run_with_restarts(start, config, 2, None) == statuses[starts - 1]
    assert len(done) == starts
    with pytest.raises(ConfigError, match=r"--max-restarts needs checkpoints .* Set save"):
        run_with_restarts(start, NeoXConfig.load([], SHAPE), 1, None)


@pytest.mark.parametrize(
    ("down", "min_nodes", "expected"),
    [
        ([], 1, ["node0", "node1", "node2"]),
        (["node1"], 3, ["node0", "node2", "node3"]),
        (["node1", "node0"], 1, ["node2", "node3"]),
        (["node0", "node1", "node2"], 1, ["node3"]),
    ],
)
def test_hosts_that_are_down_are_replaced_or_left_out(config, monkeypatch, down, min_nodes, expected):
    monkeypatch.setattr(restarts, "has_answer", lambda host: host not in down)
    chosen, remark = choose_hosts(config, min_nodes)
    assert list(find_resources(chosen.parallelism)) == expected
    assert all(host in remark for host in down)
    assert chosen.batch_sizes(2 * len(expected)).train_batch_size == 12


def test_a_host_that_answers_late_is_used(config, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(restarts, "has_answer", lambda host: host == "node0" or asked.append(host) or asked.count(host) == 3)
    chosen, _ = choose_hosts(config, 3)
    assert list(find_resources(chosen.parallelism)) == ["node0", "node1", "node2"]
    assert capsys.readouterr().err.count("1 of 4 hosts answer; no answer from node1, node2, node3") == 2


def test_too_few_hosts_end_the_run(config, monkeypatch):
    monkeypatch.setattr(restarts, "has_answer", lambda host: host in ("node0", "node1"))
    with pytest.raises(LaunchError, match=r"2 of 4 hosts answer; no answer from node2, node3, .*--min-nodes \(3\)"):
        choose_hosts(config, 3)
