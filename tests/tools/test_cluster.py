"""The files of tools/cluster/. Where a Slurm cluster of two nodes answers, it runs the ranks; else a stand-in for srun does."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from distributed_runs import losses_of

from neox_code.config.parallelism import ParallelismConfig
from neox_code.errors import EXIT_RESUME
from neox_code.files import read_json_lines
from neox_code.launch.command import choose_port
from neox_code.launch.ranks import build_parser as ranks_parser

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "tools/cluster"
BATCH_SCRIPT = CLUSTER / "train.sbatch"

STAND_IN = """#!/bin/bash
# srun on one host: its options are passed over, and the command gets the variables that Slurm 22.05 sets
while [[ $1 == -* ]]; do shift; done
export SLURM_JOB_ID=${SLURM_JOB_ID:-$$} SLURM_STEP_NUM_TASKS=2
export SLURM_STEP_NODELIST=no-such-host[1-2] SLURM_LAUNCH_NODE_IPADDR=127.0.0.1
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & zero=$!
SLURM_PROCID=1 SLURM_LOCALID=0 "$@" & one=$!
wait $zero && wait $one
"""

SCONTROL = """#!/bin/bash
echo "$@" >> scontrol.log
case "$1 $2" in
    "show hostnames") echo node1 ;;
    "show node") echo "   NodeAddr=127.0.0.1 NodeHostName=node1" ;;
esac
"""


def has_slurm() -> bool:
    if shutil.which("sbatch") is None:
        return False
    nodes = subprocess.run(["sinfo", "-hN", "-o", "%N"], capture_output=True, text=True, check=False)
    return nodes.returncode == 0 and len(nodes.stdout.split()) >= 2


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes a program that is found before others of its name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def submit(tmp_path: Path, programs: Callable[[str, str], Path]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the batch script in `tmp_path` as Slurm would, with an srun of the test's."""
    programs("scontrol", SCONTROL)
    started = []

    def start(srun: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        programs("srun", srun)
        job = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]"}
        command = ["bash", str(BATCH_SCRIPT), *map(str, arguments)]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, env={**os.environ, **job, **environment}, **pipe))
        return started[-1]

    yield start
    for script in started:
        script.kill()
        script.wait()
        script.stdout.close()


def train_losses(save: Path) -> list[float]:
    return [row["train/lm_loss"] for row in read_json_lines(save / "metrics.jsonl") if "train/lm_loss" in row]


@pytest.mark.parametrize("launcher", ["srun", "torchrun", "neox_code.launch.ranks"])
def test_ranks_of_srun_and_torchrun_train_to_the_losses_of_local_ranks(job, tmp_path: Path, programs, launcher: str) -> None:
    file = job()
    if launcher == "neox_code.launch.ranks":
        port = choose_port(0, is_default=True)
        start = [
            sys.executable,
            "-m",
            launcher,
            "--ranks_per_node=2",
            f"--master_port={port}",
            "--module",
        ]
    elif launcher == "torchrun":
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    elif has_slurm():
        start = ["srun", "--nodes=2", "--ntasks=2", sys.executable]
    else:
        start = [str(programs("srun", STAND_IN)), sys.executable]
    module = ["neox_code.commands.train"] if start[-1] == "--module" else ["-m", "neox_code.commands.train"]
    command = [*start, *module, str(file), "--set", f"save={tmp_path / launcher}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert train_losses(tmp_path / launcher) == losses_of(2, file, tmp_path / "local")


@pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster of two nodes answers")
def test_the_launcher_slurm_trains_on_the_nodes_of_its_job(job, tmp_path: Path) -> None:
    file = job(deepspeed_slurm=True, num_gpus=1, save=str(tmp_path / "job"))
    command = ["salloc", "--nodes=2", sys.executable, str(ROOT / "deepy.py"), "train", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert train_losses(tmp_path / "job") == losses_of(2, job(), tmp_path / "local")


@pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster of two nodes answers")
def test_a_slurm_job_resumes_from_its_last_checkpoint(job, tmp_path: Path, programs) -> None:
    """The warning is sent by hand: a job's real limit is at least a minute away."""
    save = str(tmp_path / "save")
    file = job(train_iters=400, checkpoint_factor=50, eval_interval=1000, save=save, load=save)
    options = ["--parsable", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1", "--chdir", str(tmp_path)]
    submitted = subprocess.run(["sbatch", *options, BATCH_SCRIPT, file], capture_output=True, text=True, check=True, cwd=tmp_path)
    number = submitted.stdout.strip()
    log = tmp_path / f"neox-code-{number}.log"

    def wait_for(what: str, seconds: float = 240) -> str:
        end = time.monotonic() + seconds
        while not (log.exists() and re.search(what, text := log.read_text())):
            assert time.monotonic() < end, log.read_text() if log.exists() else "the job did not begin"
            time.sleep(0.2)
        return text

    try:
        wait_for(r"iteration 60 ")
        subprocess.run(["scancel", "--batch", "--signal=USR1", number], check=True)
        text = wait_for(r"training: 400 /400  steps")
    finally:
        subprocess.run(["scancel", number], check=False)
    assert "start 2 of job" in text
    begun = int(re.search(r"stopped by a signal at iteration (\d+), saved", text)[1])
    assert begun >= 60 and begun % 50
    assert f"training from iteration {begun} to 400" in text


RANKS = """#!/bin/bash
# srun: ranks that a warning makes save for a moment and end with a status
trap 'sleep 0.3; echo saved; exit {status}' USR1
echo "ranks: $@ at $MASTER_ADDR"
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize("status", [75, 137])
def test_the_warning_has_the_ranks_save_and_puts_the_job_back_into_the_queue(submit, tmp_path: Path, status: int) -> None:
    """137: the first rank that exited has had the others killed."""
    script = submit(RANKS.format(status=status), "mine.yml", SLURM_RESTART_COUNT="1")
    assert script.stdout.readline().startswith("start 2 of job 7 on node[1-2]")
    assert script.stdout.readline().endswith("python -m neox_code.commands.train mine.yml at 127.0.0.1\n")
    script.send_signal(signal.SIGUSR1)
    output = script.communicate(timeout=600)[0].splitlines()
    assert output == [
        "saved",
        f"the run was stopped (status {status}): the job goes back into the queue, and resumes from its last checkpoint",
    ]
    assert script.returncode == 0
    assert (tmp_path / "scontrol.log").read_text().splitlines()[-1] == "requeue 7"


@pytest.mark.parametrize("status", [0, 2])
def test_a_run_that_is_done_or_fails_after_the_warning_ends_the_job(submit, tmp_path: Path, status: int) -> None:
    script = submit(RANKS.format(status=status), "mine.yml")
    assert [script.stdout.readline() for _ in range(2)][1].startswith("ranks")
    script.send_signal(signal.SIGUSR1)
    assert script.wait(60) == status
    assert "requeue" not in (tmp_path / "scontrol.log").read_text()


def test_ranks_that_were_stopped_by_others_than_the_script_are_resumed(submit, tmp_path: Path) -> None:
    assert submit("#!/bin/bash\nexit 75\n", "mine.yml").wait(60) == 0
    assert (tmp_path / "scontrol.log").read_text().splitlines()[-1] == "requeue 7"


def test_a_job_without_progress_is_not_started_for_ever(submit, tmp_path: Path) -> None:
    script = submit("#!/bin/bash\nexit 75\n", "mine.yml", SLURM_RESTART_COUNT="3", MOST_RESTARTS="3")
    assert "started again 3 times" in script.communicate(timeout=600)[0]
    assert script.returncode == 1
    assert "requeue" not in (tmp_path / "scontrol.log").read_text()


@pytest.mark.parametrize("status", [0, 2, 137])
def test_without_a_warning_the_job_has_the_status_of_the_ranks(submit, tmp_path: Path, status: int) -> None:
    assert submit(f"#!/bin/bash\nexit {status}\n", "mine.yml").wait(20) == status
    assert "requeue" not in (tmp_path / "scontrol.log").read_text()


def test_a_job_without_a_configuration_is_refused(submit) -> None:
    script = submit("#!/bin/bash\n")
    assert script.communicate(timeout=600)[0].startswith("error: no configuration")
    assert script.returncode == 2


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("neox.sif", "apptainer exec --nv --bind {here}:/gpt-neox --pwd /gpt-neox neox.sif python -m"),
        ("neox.sqsh", "--container-image=neox.sqsh --container-mounts={here}:/gpt-neox --container-workdir=/gpt-neox python -m"),
    ],
)
def test_with_an_image_the_ranks_run_in_containers(submit, tmp_path: Path, image: str, words: str) -> None:
    output = submit('#!/bin/bash\necho "$@"\n', "mine.yml", IMAGE=image).communicate(timeout=600)[0]
    assert output.splitlines()[-1].endswith(f"{words.format(here=tmp_path)} neox_code.commands.train mine.yml")


def test_compose_reserves_every_gpu_and_shares_the_rest_with_the_cpu_service() -> None:
    services = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]
    assert services["train"].pop("deploy")["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    assert services["train"].pop("ulimits") == {"memlock": -1}
    assert services["train-cpu"].pop("profiles") == ["cpu"]
    assert services["train"] == services["train-cpu"]
    assert (CLUSTER / services["train"]["build"]["context"]).resolve() == ROOT


def test_the_pods_of_the_jobset_meet_with_as_many_ranks_as_gpus() -> None:
    job_set = yaml.safe_load((CLUSTER / "jobset.yaml").read_text())
    (workers,) = job_set["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    *program, first = container["args"][:4]
    assert (program, first) == (["python", "-m", "neox_code.launch.ranks"], f"--nodes={job['completions']}")
    variables = {"$(MASTER_ADDR)": container["env"][0]["value"], "$(JOB_COMPLETION_INDEX)": "1"}
    words = [re.sub(r"\$\(\w+\)", lambda match: variables[match[0]], word) for word in container["args"][3:]]
    parsed = ranks_parser().parse_args(words)
    name = job_set["metadata"]["name"]
    assert parsed.nodes == job["parallelism"] == job["completions"]
    assert parsed.ranks_per_node == container["resources"]["limits"]["nvidia.com/gpu"]
    assert (parsed.node_rank, parsed.master_addr) == (1, f"{name}-{workers['name']}-0-0.{name}")
    module, *files = parsed.module
    assert module == "neox_code.commands.train"
    assert all((ROOT / file).is_file() for file in files)


def test_a_pod_that_was_stopped_restarts_the_jobset_without_being_counted() -> None:
    spec = yaml.safe_load((CLUSTER / "jobset.yaml").read_text())["spec"]
    (rule,) = spec["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("RestartJobSetAndIgnoreMaxRestarts", ["PodFailurePolicy"])
    job = spec["replicatedJobs"][0]["template"]["spec"]
    by_status, by_condition = job["podFailurePolicy"]["rules"]
    assert by_status == {"action": "FailJob", "onExitCodes": {"containerName": "train", "operator": "In", "values": [EXIT_RESUME]}}
    assert by_condition["onPodConditions"] == [{"type": "DisruptionTarget"}]
    assert job["template"]["spec"]["containers"][0]["name"] == "train"
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] >= ParallelismConfig().stop_timeout_seconds


@pytest.mark.skipif(not (ROOT / "Dockerfile").exists(), reason="no Dockerfile here, as in the image that it makes")
def test_the_apptainer_definition_follows_the_dockerfile() -> None:
    text = (CLUSTER / "apptainer.def").read_text()
    header, *parts = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert header.endswith("Bootstrap: docker\nFrom: {{ BASE_IMAGE }}\n\n")
    defaults = dict(line.strip().split("=", 1) for line in sections["arguments"].split("\n") if line.strip())
    assert all(f"ARG {name}={value}" in dockerfile for name, value in defaults.items())
    copied = [line.split() for line in sections["files"].splitlines() if line.strip()]
    assert all((ROOT / source).exists() and target == f"/gpt-neox/{source}" for source, target in copied)
    allowed = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for source, _ in copied} == allowed - {"checkpoints/README.md"}
    for name in ("post", "environment", "runscript", "test"):
        assert subprocess.run(["sh", "-n"], input=sections[name], text=True, check=False).returncode == 0


def test_every_file_has_its_row_in_the_readme() -> None:
    rows = re.findall(
        r"^\| \[`([^`]+)`\]\(([^)]+)\)[^|]*\|[^|]*\| (run|linted|not run) \|", (CLUSTER / "README.md").read_text(), re.M
    )
    files = {path.name for path in CLUSTER.iterdir() if path.is_file()} - {"README.md"}
    assert {name for name, _, _ in rows} == files
    assert all(name == target for name, target, _ in rows)
