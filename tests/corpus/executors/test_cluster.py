"""Attempts, retries and ends of the executor, on a cluster that is a few processes of this machine."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neox_code.corpus.executors import group
from neox_code.corpus.executors.cluster import ClusterExecutor
from neox_code.corpus.executors.diary import Diaries, Diary
from neox_code.corpus.executors.left_jobs import NOTE_FILE, end_left_jobs
from neox_code.corpus.executors.order import DIARIES, Order, save_order, versions
from neox_code.corpus.executors.slurm_commands import Element, never_starts
from neox_code.corpus.executors.stages import Stage, run_stage
from neox_code.corpus.executors.submission import python_path
from neox_code.errors import DataError, LaunchError
from neox_code.files import WRITER_VARIABLE, partial_path

RUN = """
import sys
from pathlib import Path
from neox_code.corpus.executors.group import run_group
run_group(Path(sys.argv[1]), int(sys.argv[2]))
"""


class Processes:
    """A cluster whose jobs are processes; those of `lost` ranks never come to anything in the first attempt."""

    name = "Processes"

    def __init__(self, lost=(), hangs=False):
        self.lost, self.hangs = lost, hangs
        self.orders: list[Order] = []

    def check(self):
        pass

    def start(self, order, folder, workers):
        first = not self.orders
        self.orders.append(order)
        save_order(folder, order)
        (folder / NOTE_FILE).write_text("{}")
        ranks = [rank for rank in range(len(order.groups)) if not (first and rank in self.lost)]
        environment = {**os.environ, "PYTHONPATH": python_path()}
        command = [sys.executable, "-c", RUN, str(folder)]
        quiet = {"stderr": subprocess.DEVNULL, "env": environment}
        return Jobs([subprocess.Popen([*command, str(rank)], **quiet) for rank in ranks], self.hangs and first)


class Jobs:
    def __init__(self, processes, hangs):
        self.processes, self.hangs = processes, hangs
        self.was_ended = False

    def is_over(self):
        return not self.hangs and all(process.poll() is not None for process in self.processes)

    def is_working(self, num_open):
        return self.hangs or num_open > 0

    def end(self):
        self.was_ended = True
        for process in self.processes:
            process.kill()
            process.wait()

    def account(self):
        return "1 CANCELLED" if any(process.poll() for process in self.processes) else ""


def twice(work: Path, task: int) -> Iterator[float]:
    yield 1
    if task == 5 and (work / "impossible").exists():
        raise ValueError("five is impossible")
    with (work / "log").open("a") as file:
        file.write(f"{task}\n")
    path = twice_file(work, task)
    path.parent.mkdir(exist_ok=True)
    partial_path(path).write_text(f"{2 * task} PAR1 {os.environ[WRITER_VARIABLE]} PAR1")
    partial_path(path).replace(path)


def twice_file(work: Path, task: int) -> Path:
    return work / "out" / f"{task}.out"


TWICE = Stage("twice", twice, twice_file)


@pytest.fixture(autouse=True)
def restored(monkeypatch, tmp_path):
    """A job changes the folder and the environment of its process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(WRITER_VARIABLE, "")


def test_lost_jobs_are_done_again_and_nothing_else_is(tmp_path):
    cluster = Processes(lost=[1])
    with ClusterExecutor(cluster, tasks_per_job=2) as executor:
        amounts = list(executor.run(TWICE, tmp_path, [0, 1, 3, 4, 5]))
    assert sum(amounts) == 5
    assert [order.groups for order in cluster.orders] == [((0, 1), (3, 4), (5,)), ((3, 4),)]
    assert sorted((tmp_path / "log").read_text().split()) == list("01345")
    writers = {twice_file(tmp_path, task).read_text().split()[2] for task in (0, 1, 3, 4, 5)}
    assert len(writers) == 3  # jobs, each with names of its own for what is not whole


def test_a_task_that_fails_is_an_error_with_its_sentence_and_the_logs_and_the_others_are_done(tmp_path):
    (tmp_path / "impossible").touch()
    with ClusterExecutor(Processes(), tasks_per_job=4, retries=1) as executor:
        with pytest.raises(DataError) as caught:
            run_stage(TWICE, tmp_path, [1] * 8, executor)
        said = str(caught.value)
        assert said.startswith("twice: 1 of 8 tasks could not be done on Processes, the first is 5 (jobs ended: 1 CANCELLED; ")
        assert "ValueError: five is impossible" in said
        assert f"The logs in {tmp_path}/cluster/twice-2 name the reason: remove it, and rerun the same command" in said
        (tmp_path / "impossible").unlink()
        run_stage(TWICE, tmp_path, [1] * 8, executor)
    assert sorted((tmp_path / "log").read_text().split()) == list("01234567")


def test_jobs_without_progress_are_ended_and_what_they_left_is_swept_away(tmp_path):
    cluster = Processes(lost=[0], hangs=True)
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "shard.parquet.0badcafe.partial").touch()
    with ClusterExecutor(cluster, tasks_per_job=1, stall_seconds=5) as executor:
        list(executor.run(TWICE, tmp_path, [0, 1]))
    assert len(cluster.orders) == 2
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1"]
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob(NOTE_FILE))


def test_leaving_the_block_ends_the_jobs(tmp_path):
    cluster = Processes(hangs=True)
    with pytest.raises(KeyboardInterrupt), ClusterExecutor(cluster) as executor:
        for _ in executor.run(TWICE, tmp_path, [0]):
            job, folder = executor._running
            assert (folder / NOTE_FILE).exists()
            raise KeyboardInterrupt
    assert job.was_ended and not (folder / NOTE_FILE).exists()


def test_the_driver_itself_makes_the_folders_that_it_looks_into(tmp_path):
    """NFS remembers for up to a minute that a folder was not there."""

    class Seen(Processes):
        def start(self, order, folder, workers):
            assert (folder / DIARIES).is_dir() and twice_file(order.work, 0).parent.is_dir()
            return super().start(order, folder, workers)

    with ClusterExecutor(Seen()) as executor:
        run_stage(TWICE, tmp_path, [1], executor)


def test_a_job_goes_no_further_when_its_attempt_is_over(tmp_path):
    (tmp_path / DIARIES).mkdir()
    save_order(tmp_path, Order(TWICE, tmp_path, ((0, 1),), tmp_path, (), versions()))
    group.run_group(tmp_path, 0)
    assert not (tmp_path / "log").exists()


def test_a_job_that_begins_when_the_work_folder_is_gone_does_not_make_it_again(tmp_path):
    with pytest.raises(FileNotFoundError):
        group.run_group(tmp_path / "corpus.work" / "cluster" / "scan-1", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"needs": ("/nowhere/corpus",)}, r"does not see /nowhere/corpus\. Put it on a file system that all machines share"),
        ({"versions": {"pyarrow": "1.0"}}, r"has pyarrow \S+ and not 1\.0\. Give all machines the same environment"),
    ],
)
def test_a_machine_that_would_make_another_corpus_is_refused(tmp_path, change, sentence):
    (tmp_path / DIARIES).mkdir()
    (tmp_path / NOTE_FILE).touch()
    values = {"needs": (), "versions": {}} | change
    values["versions"] = versions() | values["versions"]
    save_order(tmp_path, Order(TWICE, tmp_path, ((0,),), tmp_path, **values))
    with pytest.raises(DataError, match=sentence):
        group.run_group(tmp_path, 0)
    assert any("error" in line for line in Diaries(tmp_path / DIARIES).read())


def test_a_diary_is_read_as_it_grows_and_half_a_line_later(tmp_path):
    diaries = Diaries(tmp_path)
    assert diaries.read() == []
    with Diary(tmp_path, 3) as diary:
        diary.write(task=7, done=1.5)
        assert [line.get("done") for line in diaries.read()] == [None, 1.5]
        with diary.path.open("a") as file:
            file.write('{"task": 7, ')
        assert diaries.read() == [] and diaries.num_open == 1
        with diary.path.open("a") as file:
            file.write('"whole": true}\n')
        assert diaries.read() == [{"task": 7, "whole": True}]
    assert diaries.read() == [{"ended": True}] and diaries.num_open == 0


def test_lines_that_a_full_disk_or_a_network_file_system_has_spoilt_are_left_out(tmp_path):
    path = tmp_path / "00000-0badcafe.jsonl"
    path.write_bytes(b'{"task": 1, "do{"task": 1, "done": 2}\n\0\0\0\0\n{"task": 1, "done": 3}\n')
    assert Diaries(tmp_path).read() == [{"task": 1, "done": 3}]


def test_a_job_that_was_lost_and_has_ended_in_another_process_is_not_open(tmp_path):
    lost = Diary(tmp_path, 3)
    lost.__enter__()
    diaries = Diaries(tmp_path)
    with Diary(tmp_path, 3), Diary(tmp_path, 4):
        diaries.read()
        assert diaries.num_open == 2
    diaries.read()
    assert diaries.num_open == 0


def test_a_job_of_ray_that_is_lost_before_it_begins_is_told_of(monkeypatch):
    ray = pytest.importorskip("ray")
    submit = importlib.import_module("neox_code.corpus.executors.submit")

    def placement_group(bundles):
        raise RuntimeError("the node is gone")

    monkeypatch.setattr(ray.util, "placement_group", placement_group)
    with submit.TaskManager(1, submit.datatrove_ray.TimeoutManager()) as manager:
        job = manager.submit_task(None, [0], {"num_cpus": 1})
        assert manager.wait([job], timeout=10) == ([], [])
    with pytest.raises(RuntimeError, match="the node is gone"):
        job.result(timeout=0)


def test_jobs_of_a_killed_driver_whose_cluster_is_out_of_reach_are_not_run_into(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    note = tmp_path / "cluster" / "scan-1" / NOTE_FILE
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"slurm_job_name": "neox-code-scan-1"}))
    with pytest.raises(LaunchError, match=rf"jobs called neox-code-scan-1 .* may still be running.* remove {note}\.$"):
        end_left_jobs(tmp_path)


@pytest.mark.parametrize(
    ("state", "reason", "sentence"),
    [
        ("PENDING", "Resources", None),
        ("RUNNING", "None", None),
        ("PENDING", "PartitionTimeLimit", "job 7_0 will never start (PartitionTimeLimit). The partition allows less time: change"),
        ("PENDING", "DependencyNeverSatisfied", "job 7_0 will never start (DependencyNeverSatisfied). What it depends on"),
        ("PENDING", "launch failed requeued held", "job 7_0 will never start (launch failed requeued held). An administrator"),
    ],
)
def test_jobs_that_wait_for_ever_are_told_from_those_that_wait(state, reason, sentence):
    said = never_starts({"7_0": Element(state, reason)})
    assert said is None if sentence is None else said.startswith(sentence)


def test_a_build_that_was_given_no_cluster_costs_no_time(tmp_path):
    begin = time.monotonic()
    end_left_jobs(tmp_path)
    assert time.monotonic() - begin < 0.1
