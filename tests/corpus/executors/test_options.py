import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neox_code.corpus.executors import ray, slurm
from neox_code.corpus.executors.options import add_executor_options, build_executor
from neox_code.corpus.executors.ray import RayCluster
from neox_code.corpus.executors.slurm import SlurmCluster
from neox_code.errors import ConfigError

ROOT = Path(__file__).parents[3]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int)
    add_executor_options(parser)
    return parser.parse_args(words)


def test_options_reach_the_cluster(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda program: program)
    monkeypatch.setattr(SlurmCluster, "require_cluster", lambda self: None)
    monkeypatch.setattr(RayCluster, "require_cluster", lambda self: None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    words = ("--executor", "slurm", "--partition", "cpu", "--time", "1-00:00:00", "--mem-per-cpu", "3", "--sbatch", "account=me")
    with build_executor(parsed(*words, "--tasks-per-job", "9"), needs=[str(tmp_path)]) as executor:
        assert executor.cluster == SlurmCluster("cpu", "1-00:00:00", 3, ["account=me"])
        assert (executor.tasks_per_job, executor.retries, executor.needs) == (9, 2, (str(tmp_path),))
    with build_executor(parsed("--executor", "ray", "--workers", "5", "--stall-seconds", "60")) as executor:
        assert executor.cluster == RayCluster("10.0.0.1:6379", 2)
        assert (executor.workers, executor.stall_seconds) == (5, 60)
    with build_executor(parsed()) as executor:
        assert executor is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--partition", "cpu"), r"^--partition cannot be used with --executor local\."),
        (("--executor", "ray", "--time", "01:00:00"), r"^--time cannot be used with --executor ray\."),
        (("--executor", "slurm", "--ray-address", "head:1"), r"^--ray-address cannot be used with --executor slurm\."),
    ],
)
def test_an_option_of_another_executor_is_refused(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_executor(parsed(*words))


@pytest.mark.parametrize(
    "words",
    [
        *(("--time", "5"), ("--time", "5:00"), ("--sbatch", "account"), ("--tasks-per-job", "0")),
        *(("--retries", "-1"), ("--stall-seconds", "0"), ("--stall-seconds", "nan")),
    ],
)
def test_an_ambiguous_or_endless_value_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        parsed(*words)
    assert words[1] in capsys.readouterr().err


def test_a_missing_program_or_package_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ConfigError, match="needs sbatch, which is not installed here"):
        build_executor(parsed("--executor", "slurm"))
    monkeypatch.setattr(ray.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--executor ray needs ray: pip install 'neox-code\[cluster\]'"):
        build_executor(parsed("--executor", "ray"))


def test_sbatch_receives_the_options_and_a_script_that_runs_each_job(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(slurm, "run_slurm", lambda *command: commands.append(command) or "")
    folder = tmp_path / "it's 100%"
    folder.mkdir()
    cluster = SlurmCluster("cpu", "1-00:00:00", 3, ["account=me", "time=00:10:00"])
    cluster.start("neox-code-scan-1", folder, ["env", "PYTHONPATH=/a b", "printf", "%s|", str(folder)], 7, 4)
    ((program, *options, script),) = commands
    assert program == "sbatch" and {"--array=0-6%4", "--mem-per-cpu=3G", "--account=me", "--time=00:10:00"} <= set(options)
    assert f"--output={tmp_path}/it's 100%%/logs/slurm-%a.out" in options
    done = subprocess.run(
        ["bash", script], capture_output=True, text=True, env=os.environ | {"SLURM_ARRAY_TASK_ID": "5"}, check=True
    )
    assert done.stdout == f"{folder}|5/7|"


def test_without_a_cluster_ray_is_not_imported():
    check = "import sys; import neox_code.corpus.executors.options; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("127.0.0.1:9", r"no Ray cluster at 127\.0\.0\.1:9 \(Connection refused\)"), ("ray://head", "is not HOST:PORT of a Ray head")],
)
def test_an_address_without_a_cluster_is_an_error_at_once(address, sentence):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=sentence):
        RayCluster(address).require_cluster()
