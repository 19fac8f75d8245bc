import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neox_code.corpus.executors import cluster
from neox_code.corpus.executors.options import add_cluster_options, executor_of
from neox_code.corpus.executors.ray import RayCluster
from neox_code.corpus.executors.slurm import SlurmCluster, activation
from neox_code.errors import ConfigError

ROOT = Path(__file__).parents[3]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--executor", default="local")
    parser.add_argument("--workers", type=int)
    add_cluster_options(parser)
    return parser.parse_args(words)


def test_options_reach_the_cluster(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda program: program)
    monkeypatch.setattr(SlurmCluster, "check", lambda self: None)
    monkeypatch.setattr(RayCluster, "check", lambda self: None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    words = ("--executor", "slurm", "--partition", "cpu", "--time", "1-00:00:00", "--mem-per-cpu", "3", "--sbatch", "account=me")
    with executor_of(parsed(*words, "--tasks-per-job", "9"), needs=[str(tmp_path)]) as executor:
        assert executor.cluster == SlurmCluster("cpu", "1-00:00:00", 3, ["account=me"])
        assert (executor.tasks_per_job, executor.retries, executor.needs) == (9, 2, (str(tmp_path),))
    with executor_of(parsed("--executor", "ray", "--workers", "5", "--stall-seconds", "60")) as executor:
        assert executor.cluster == RayCluster("10.0.0.1:6379", 2)
        assert (executor.workers, executor.stall_seconds) == (5, 60)
    with executor_of(parsed()) as executor:
        assert executor is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--partition", "cpu"), r"^--partition: not of --executor local\."),
        (("--executor", "ray", "--time", "01:00:00"), r"^--time: not of --executor ray\."),
        (("--executor", "slurm", "--ray-address", "head:1"), r"^--ray-address: not of --executor slurm\."),
    ],
)
def test_an_option_of_another_executor_is_refused(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        executor_of(parsed(*words))


@pytest.mark.parametrize(
    "words",
    [
        *(("--time", "5"), ("--time", "5:00"), ("--sbatch", "account"), ("--tasks-per-job", "0")),
        *(("--retries", "-1"), ("--stall-seconds", "0"), ("--stall-seconds", "nan")),
    ],
)
def test_what_would_be_misread_or_never_end_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        parsed(*words)
    assert words[1] in capsys.readouterr().err


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ConfigError, match="needs sbatch, which is not installed here"):
        executor_of(parsed("--executor", "slurm"))
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs datatrove: pip install 'neox-code\[cluster\]'"):
        executor_of(parsed("--executor", "slurm"))
    with pytest.raises(ConfigError, match=r"--executor ray needs"):
        executor_of(parsed("--executor", "ray"))


def test_a_job_gets_this_interpreter(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert where_python_is() == str(Path(sys.executable).parent)
    venv = tmp_path / "it's a venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").write_text('PATH="$(dirname "$BASH_SOURCE"):$PATH"\n')
    monkeypatch.setattr(sys, "prefix", str(venv))
    assert where_python_is() == str(venv / "bin")


def where_python_is() -> str:
    done = subprocess.run(["bash", "-c", f"{activation()}; echo ${{PATH%%:*}}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_a_cluster_nothing_of_datatrove_or_ray_is_imported():
    check = "import sys; import neox_code.corpus.executors.options; assert not {'datatrove', 'ray', 'dill'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("127.0.0.1:9", r"no Ray cluster at 127\.0\.0\.1:9 \(Connection refused\)"), ("ray://head", "is not HOST:PORT of a Ray head")],
)
def test_an_address_where_no_cluster_is_is_found_at_once(address, sentence):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=sentence):
        RayCluster(address).check()
