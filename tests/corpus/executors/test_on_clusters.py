"""Stages on a Slurm and a Ray of two nodes, and what is killed on them.

NEOX_CODE_TEST_SLURM and NEOX_CODE_TEST_RAY each name a program: `up 2` starts a private cluster of two nodes on this machine,
`env` prints what points commands at it, `down` ends it. SLURM_BOX and RAY_BOX name their folders.
"""

import contextlib
import json
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
from real_code import real_files

from neox_code.tokenizer.train_bpe import train_bpe

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(600)
PROGRAMS = {"slurm": "NEOX_CODE_TEST_SLURM", "ray": "NEOX_CODE_TEST_RAY"}

TASKS = """
import os, signal, time
from pathlib import Path
from neox_code.corpus.executors.stages import Stage
from neox_code.files import partial_path

def work_slowly(work, task):
    behavior = (work / "behavior").read_text().split()
    first_time = not (work / f"{task}.list_started_tasks").exists()
    with (work / f"{task}.list_started_tasks").open("a") as file:
        file.write("x")
    for step in range(4):
        time.sleep(float(behavior[0]))
        yield 250
        if task == 3 and "raise" in behavior:
            raise ZeroDivisionError("task 3 is impossible")
        if task == 3 and "die" in behavior and first_time:
            os.kill(os.getpid(), signal.SIGKILL)
    path = output(work, task)
    path.parent.mkdir(exist_ok=True)
    partial_path(path).write_text(f"{task ** 2} PAR1")
    partial_path(path).replace(path)

def output(work, task):
    return work / "out" / f"{task}.out"

STAGE = Stage("slow", work_slowly, output)
"""

DRIVER = """
import argparse, sys
from pathlib import Path
from cluster_tasks_of_this_test import STAGE
from neox_code.corpus.executors.options import add_executor_options, build_executor
from neox_code.corpus.executors.stages import run_stage
from neox_code.errors import run_command

def main(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--workers", type=int, default=4)
    add_executor_options(parser)
    arguments = parser.parse_args(argv)
    with build_executor(arguments) as executor:
        run_stage(STAGE, arguments.work, [1000] * 8, executor)
    return 0

sys.exit(run_command(main, sys.argv[1:]))
"""

CORPUS = """
import sys
from neox_code.corpus.pipeline import index
from neox_code.corpus.sources import batches
from neox_code.errors import run_command
from tools.build_corpus import main

batches.BATCH_BYTES = index.LEAST_SHARD_BYTES = 2**15        # many small tasks
sys.exit(run_command(main, sys.argv[1:]))
"""


class Box:
    """A private cluster, and drivers on it."""

    def __init__(self, kind: str, program: str):
        self.kind = kind
        self.program = program
        output_text = subprocess.run([program, "env"], check=True, capture_output=True, text=True).stdout
        self.environment = dict(line.removeprefix("export ").split("=", 1) for line in output_text.splitlines())

    def start(self, script: str, *words: object, folder: Path) -> subprocess.Popen[str]:
        environment = {**os.environ, **self.environment, "PYTHONPATH": f"{folder}:{ROOT}:{ROOT / 'tools'}", "OMP_NUM_THREADS": "1"}
        (folder / "cluster_tasks_of_this_test.py").write_text(TASKS)
        command = [sys.executable, "-P", "-c", script, "--executor", self.kind, "--mem-per-cpu", "1", *map(str, words)]
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, cwd=folder, text=True, **output)

    def slurm(self, *command: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=list(PROGRAMS))
def box(request) -> Iterator[Box]:
    program = os.environ.get(PROGRAMS[request.param])
    if not program:
        pytest.skip(f"{PROGRAMS[request.param]} names no program that starts a cluster")
    os.environ["PYTHON"] = sys.executable
    subprocess.run([program, "up", "2"], check=True, timeout=120, stdout=subprocess.DEVNULL)
    yield Box(request.param, program)
    subprocess.run([program, "down"], check=True, timeout=60)


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., Path]:
    """A work folder whose tasks take a multiple of four times some seconds, and behave."""

    def make(*behavior: object) -> Path:
        folder = tmp_path / "slow.work"
        folder.mkdir(exist_ok=True)
        (folder / "behavior").write_text(" ".join(map(str, behavior)))
        return folder

    return make


def read_outputs(work: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((work / "out").glob("*"))}


ALL = {f"{task}.out": f"{task**2} PAR1" for task in range(8)}


def list_started_tasks(work: Path) -> list[int]:
    """How often each task was list_started_tasks."""
    return [len((work / f"{task}.list_started_tasks").read_text()) for task in range(8)]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> object:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def open_job_logs(work: Path) -> list[Path]:
    """Of processes that work on a task, not the first of their group."""
    found = ((path, path.read_text()) for path in work.glob("cluster/*/progress/*"))
    return [path for path, text in found if '"ended"' not in text and '"finished"' in text]


def finish(driver: subprocess.Popen[str], status: int = 0) -> str:
    _, output_text = driver.communicate(timeout=600)
    assert driver.returncode == status, output_text
    assert "Traceback" not in output_text
    return output_text


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("recipe", ["polycoder", "strict"])
def test_a_corpus_built_on_a_cluster_has_the_bytes_of_a_local_build(box, tree, tmp_path, recipe):
    shutil.copytree(tree, tmp_path / "code")
    words = (
        "code",
        "--recipe",
        recipe,
        "--split",
        "80,10,10",
        "--layout",
        "project",
    )  # a relative path: Ray's workers start elsewhere
    output_text = finish(box.start(CORPUS, *words, "--output", "corpus", "--workers", 4, "--tasks-per-job", 2, folder=tmp_path))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    command = [sys.executable, "-c", CORPUS, *words, "--output", "here", "--workers", "1"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert all(int(count) > 4 for count in re.findall(r"scan: (\d+) tasks in", output_text))
    assert bytes_of(tmp_path / "corpus") == bytes_of(tmp_path / "here")
    assert not (tmp_path / "corpus.work").exists()


TOKENS = """
import sys
from neox_code.corpus.tokens import input_slices
from neox_code.errors import run_command
from tools.preprocess_data import main

input_slices.SLICE_BYTES = 20_000        # many small tasks
sys.exit(run_command(main, sys.argv[1:]))
"""


def test_token_files_written_on_a_cluster_have_the_bytes_of_a_local_run(box, tmp_path):
    texts = [path.read_text(encoding="utf-8") for path in real_files(60)]
    train_bpe(texts[:20], 600, tmp_path)
    rows = [json.dumps({"text": text, "lang": ("Python", "Go")[number % 2]}) for number, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    vocabulary = ["--vocab-file", "code-vocab.json", "--merge-file", "code-merges.txt"]
    words = ["--input", "rows.jsonl", "--tokenizer-type", "GPT2BPETokenizer", *vocabulary, "--append-eod", "--by-language"]
    output_text = finish(
        box.start(TOKENS, *words, "--output-prefix", "there/x", "--workers", 4, "--tasks-per-job", 3, folder=tmp_path)
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    command = [sys.executable, "-c", TOKENS, *words, "--output-prefix", "here/x", "--workers", "1"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert int(re.search(r"tokenize: (\d+) tasks in", output_text)[1]) > 4
    there, here = bytes_of(tmp_path / "there"), bytes_of(tmp_path / "here")
    assert there.pop("x_datasets.yml").replace(b"there/", b"here/") == here.pop("x_datasets.yml")
    assert there == here and len(here) == 6


def test_only_the_task_of_a_killed_process_is_repeated(box, work, tmp_path):
    folder = work(0.05, "die")
    output_text = finish(box.start(DRIVER, folder, "--tasks-per-job", 4, folder=tmp_path))
    assert re.search(r"1 tasks are not done \(.*A worker process ended by signal SIGKILL", output_text)
    assert read_outputs(folder) == ALL
    assert list_started_tasks(folder) == [1, 1, 1, 2, 1, 1, 1, 1]


def test_only_unfinished_tasks_of_a_killed_job_are_repeated(box, work, tmp_path):
    """Long before the half hour without progress after which jobs are given up: finish waits for less than five minutes."""
    folder = work(0.5)
    driver = box.start(DRIVER, folder, "--tasks-per-job", 4, folder=tmp_path)
    diary = wait_until(lambda: open_job_logs(folder))[0]
    os.kill(json.loads(diary.read_text().splitlines()[0])["pid"], signal.SIGKILL)
    killed_at = time.monotonic()
    output_text = finish(driver)
    assert time.monotonic() - killed_at < 60
    assert ("starting them again" in output_text) == (box.kind == "slurm")  # Ray does so itself
    assert read_outputs(folder) == ALL
    assert max(list_started_tasks(folder)) == 2 and sum(list_started_tasks(folder)) <= 10


def test_a_failing_task_is_an_error_after_the_given_number_of_retries(box, work, tmp_path):
    folder = work(0.05, "raise")
    output_text = finish(box.start(DRIVER, folder, "--tasks-per-job", 4, "--retries", 1, folder=tmp_path), status=2)
    last = output_text.splitlines()[-1]
    assert re.match(r"error: slow: 1 of 8 tasks could not be done on (Slurm|Ray); the first is task 3 \(.*3 is impossible", last)
    logs = Path(re.search(r"The logs in (\S+) contain", output_text)[1])
    assert "ZeroDivisionError: task 3 is impossible" in "".join(
        path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file() and path.suffix != ".pickle"
    )
    assert list_started_tasks(folder) == [1, 1, 1, 2, 1, 1, 1, 1]
    work(0)
    finish(box.start(DRIVER, folder, folder=tmp_path))
    assert read_outputs(folder) == ALL


def test_a_run_after_a_killed_driver_ends_the_leftover_jobs_and_resumes(box, work, tmp_path):
    folder = work(0.5)
    driver = box.start(DRIVER, folder, "--tasks-per-job", 4, folder=tmp_path)
    wait_until(lambda: open_job_logs(folder))
    driver.kill()
    driver.communicate()
    before = [path.name for path in (folder / "out").glob("*.out")]
    assert before
    output_text = finish(box.start(DRIVER, folder, folder=tmp_path))
    assert ("cancelling the Slurm jobs that an interrupted run has left" in output_text) == (box.kind == "slurm")
    assert read_outputs(folder) == ALL
    assert all(list_started_tasks(folder)[int(name.removesuffix(".out"))] == 1 for name in before)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_ends_its_jobs(box, work, tmp_path, ending):
    folder = work(30)
    driver = box.start(DRIVER, folder, folder=tmp_path)
    pids = wait_until(lambda: [json.loads(p.read_text().splitlines()[0])["pid"] for p in folder.glob("cluster/*/progress/*")])
    driver.send_signal(ending)
    finish(driver, status=128 + ending)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)
    if box.kind == "slurm":
        assert box.slurm("squeue", "--noheader") == ""
    assert not list(folder.glob("cluster/*/running.json"))


def test_a_cancelled_or_requeued_job_is_repeated(box, work, tmp_path):
    if box.kind != "slurm":
        pytest.skip("of Slurm")
    folder = work(0.5)
    driver = box.start(DRIVER, folder, "--tasks-per-job", 4, folder=tmp_path)
    wait_until(lambda: open_job_logs(folder))
    cancelled, requeued = sorted(box.slurm("squeue", "--noheader", "--array", "--format=%i").split())
    box.slurm("scancel", cancelled)
    box.slurm("scontrol", "requeue", requeued)
    output_text = finish(driver)
    assert re.search(r"tasks are not done \(jobs ended: 1 CANCELLED", output_text)
    assert read_outputs(folder) == ALL
    assert max(list_started_tasks(folder)) == 2 and sum(list_started_tasks(folder)) <= 10


def test_an_impossible_job_is_reported_in_one_sentence(box, work, tmp_path):
    folder = work(0)
    asked = {"slurm": ("--partition", "nowhere"), "ray": ("--ray-address", "127.0.0.1:9")}[box.kind]
    sentence = {"slurm": "invalid partition", "ray": "no Ray cluster at 127.0.0.1:9"}[box.kind]
    assert sentence in finish(box.start(DRIVER, folder, *asked, folder=tmp_path), status=2).splitlines()[-1]
    sentence = {"slurm": "Memory specification can not be satisfied", "ray": "no machine of the Ray cluster has 4000 GiB"}[box.kind]
    output_text = finish(box.start(DRIVER, folder, "--mem-per-cpu", 4000, folder=tmp_path), status=2)
    assert sentence in output_text.splitlines()[-1]


def test_only_running_tasks_of_a_killed_raylet_are_repeated(box, work, tmp_path):
    if box.kind != "ray":
        pytest.skip("of Ray; the last of them, for it leaves one node")
    folder = work(0.5)
    driver = box.start(DRIVER, folder, "--tasks-per-job", 4, folder=tmp_path)
    wait_until(lambda: open_job_logs(folder))
    os.kill(raylet_of_the_second_node(), signal.SIGKILL)
    finish(driver)
    assert read_outputs(folder) == ALL


def raylet_of_the_second_node() -> int:
    box = os.environ.get("RAY_BOX", "/tmp/ray-box")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"/raylet") and f"--temp_dir={box}/n2".encode() in command:
                return int(process.name)
    raise AssertionError("no raylet of the second node is running")
