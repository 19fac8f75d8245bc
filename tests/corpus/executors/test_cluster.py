"""Attempts, retries and ends of the executor, on a cluster that is a few processes of this machine."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neox_code.corpus.executors.cluster import ClusterExecutor
from neox_code.corpus.executors.job_array import JobArray, load_job_array, make_import_path, read_versions, save_job_array
from neox_code.corpus.executors.job_log import JobLog, JobLogs
from neox_code.corpus.executors.slurm import JobState, find_unstartable_jobs
from neox_code.corpus.executors.stages import Stage, run_stage
from neox_code.corpus.executors.work_folder import RUNNING_FILE, end_leftover_jobs
from neox_code.corpus.executors.worker import JOB_LOGS, OUTPUT_LOGS, run_as_child, run_job
from neox_code.errors import DataError, LaunchError
from neox_code.files import WRITER_VARIABLE, partial_path


class ProcessCluster:
    """A cluster whose jobs are processes of this machine; the jobs in `lost` never start in the first attempt."""

    name = "Processes"

    def __init__(self, lost=(), hangs=False):
        self.lost, self.hangs = lost, hangs
        self.arrays: list[JobArray] = []

    def require_cluster(self):
        pass

    def start(self, name, folder, command, count, workers):
        first = not self.arrays
        self.arrays.append(load_job_array(folder))
        assert count == len(self.arrays[-1].groups)
        jobs = [job for job in range(count) if not (first and job in self.lost)]
        started = [subprocess.Popen([*command, f"{job}/{count}"], stderr=subprocess.DEVNULL) for job in jobs]
        return Jobs(started, self.hangs and first)


class Jobs:
    def __init__(self, processes, hangs):
        self.processes, self.hangs = processes, hangs
        self.was_ended = False

    def is_over(self):
        return not self.hangs and all(process.poll() is not None for process in self.processes)

    def is_making_progress(self, num_open):
        return self.hangs or num_open > 0

    def cancel(self):
        self.was_ended = True
        for process in self.processes:
            process.kill()
            process.wait()

    def describe_failures(self):
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


def kill_job(work: Path, task: int) -> Iterator[float]:
    if (work / "killed").exists():
        os.kill(os.getppid(), signal.SIGKILL)
    yield from twice(work, task)


KILLED = Stage("killed", kill_job, twice_file)


def fail_for_good(work: Path, task: int) -> Iterator[float]:
    yield 1
    raise LookupError("no other attempt will do")


def measure_twice(work: Path, task: int) -> Iterator[tuple[int, int]]:
    yield 2, 3
    yield from ((0, 4) for _ in twice(work, task))


@pytest.fixture(autouse=True)
def restored(monkeypatch, tmp_path):
    """A job changes the folder and the environment of its process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(WRITER_VARIABLE, "")


def test_only_lost_jobs_are_started_again(tmp_path):
    cluster = ProcessCluster(lost=[1])
    with ClusterExecutor(cluster, tasks_per_job=2) as executor:
        amounts = list(executor.run(TWICE, tmp_path, [0, 1, 3, 4, 5]))
    assert sum(amounts) == 5
    assert [array.groups for array in cluster.arrays] == [((0, 1), (3, 4), (5,)), ((3, 4),)]
    assert sorted((tmp_path / "log").read_text().split()) == list("01345")
    writers = {twice_file(tmp_path, task).read_text().split()[2] for task in (0, 1, 3, 4, 5)}
    assert len(writers) == 3  # jobs, each with names of its own for what is not whole


def test_a_failing_task_is_reported_with_its_error_and_log_folder_after_the_others_are_done(tmp_path):
    (tmp_path / "impossible").touch()
    with ClusterExecutor(ProcessCluster(), tasks_per_job=4, retries=1) as executor:
        with pytest.raises(DataError) as caught:
            run_stage(TWICE, tmp_path, [1] * 8, executor)
        message = str(caught.value)
        assert message.startswith(
            "twice: 1 of 8 tasks could not be done on Processes; the first is task 5 (jobs ended: 1 CANCELLED; "
        )
        assert "ValueError: five is impossible" in message
        assert (
            f"The logs in {tmp_path}/cluster/twice-2 contain the reason. Remove the cause. Rerun the same command to resume."
            in message
        )
        (tmp_path / "impossible").unlink()
        run_stage(TWICE, tmp_path, [1] * 8, executor)
    assert sorted((tmp_path / "log").read_text().split()) == list("01234567")


def test_jobs_without_progress_are_cancelled_and_their_partial_files_removed(tmp_path):
    cluster = ProcessCluster(lost=[0], hangs=True)
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "shard.parquet.0badcafe.partial").touch()
    with ClusterExecutor(cluster, tasks_per_job=1, stall_seconds=5) as executor:
        list(executor.run(TWICE, tmp_path, [0, 1]))
    assert len(cluster.arrays) == 2
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1"]
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob(RUNNING_FILE))


def test_an_error_that_is_not_retried_is_raised_in_the_driver(tmp_path):
    cluster = ProcessCluster()
    stage = Stage("fatal", fail_for_good, twice_file, not_retried=(LookupError,))
    with ClusterExecutor(cluster) as executor, pytest.raises(LookupError, match=r"^no other attempt will do$"):
        list(executor.run(stage, tmp_path, [0]))
    assert len(cluster.arrays) == 1
    assert not list(tmp_path.rglob(RUNNING_FILE))


def test_tuples_of_amounts_are_summed(tmp_path):
    with ClusterExecutor(ProcessCluster(lost=[0]), tasks_per_job=1) as executor:
        amounts = list(executor.run(Stage("measured", measure_twice, twice_file), tmp_path, [0, 1]))
    assert [sum(column) for column in zip(*amounts, strict=True)] == [4, 14]


def test_leaving_the_block_ends_the_jobs(tmp_path):
    cluster = ProcessCluster(hangs=True)
    with pytest.raises(KeyboardInterrupt), ClusterExecutor(cluster) as executor:
        for _ in executor.run(TWICE, tmp_path, [0]):
            job, folder = executor._running
            assert (folder / RUNNING_FILE).exists()
            raise KeyboardInterrupt
    assert job.was_ended and not (folder / RUNNING_FILE).exists()


def test_the_driver_creates_the_folders_that_it_reads(tmp_path):
    """NFS remembers for up to a minute that a folder was not there."""

    class CheckedCluster(ProcessCluster):
        def start(self, name, folder, *arguments):
            assert (folder / JOB_LOGS).is_dir() and twice_file(tmp_path, 0).parent.is_dir()
            return super().start(name, folder, *arguments)

    with ClusterExecutor(CheckedCluster()) as executor:
        run_stage(TWICE, tmp_path, [1], executor)


def test_a_job_starts_no_task_after_its_attempt_has_ended(tmp_path):
    (tmp_path / JOB_LOGS).mkdir()
    save_job_array(tmp_path, JobArray(TWICE, tmp_path, ((0, 1),), tmp_path, (), read_versions()))
    run_job(tmp_path, 0)
    assert not (tmp_path / "log").exists()


def test_a_late_job_does_not_create_a_removed_work_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_job(tmp_path / "corpus.work" / "cluster" / "scan-1", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"needs": ("/nowhere/corpus",)}, r"/nowhere/corpus does not exist on \S+\. Put it on a file system that all machines"),
        ({"versions": {"pyarrow": "1.0"}}, r"has pyarrow \S+ instead of 1\.0\. Use the same environment on all machines"),
    ],
)
def test_a_machine_with_other_versions_or_without_a_needed_path_is_refused(tmp_path, change, sentence):
    (tmp_path / JOB_LOGS).mkdir()
    (tmp_path / RUNNING_FILE).touch()
    values = {"needs": (), "versions": {}} | change
    values["versions"] = read_versions() | values["versions"]
    save_job_array(tmp_path, JobArray(TWICE, tmp_path, ((0,),), tmp_path, **values))
    with pytest.raises(DataError, match=sentence):
        run_job(tmp_path, 0)
    assert any("error" in line for line in JobLogs(tmp_path / JOB_LOGS).read())


def test_only_whole_lines_of_a_growing_job_log_are_read(tmp_path):
    logs = JobLogs(tmp_path)
    assert logs.read() == []
    with JobLog(tmp_path, 3) as job_log:
        job_log.write(task=7, done=1.5)
        assert [line.get("done") for line in logs.read()] == [None, 1.5]
        with job_log.path.open("a") as file:
            file.write('{"task": 7, ')
        assert logs.read() == [] and logs.num_open == 1
        with job_log.path.open("a") as file:
            file.write('"finished": true}\n')
        assert logs.read() == [{"task": 7, "finished": True}]
    assert logs.read() == [{"ended": True}] and logs.num_open == 0


def test_damaged_lines_of_a_job_log_are_left_out(tmp_path):
    path = tmp_path / "00000-0badcafe.jsonl"
    path.write_bytes(b'{"task": 1, "do{"task": 1, "done": 2}\n\0\0\0\0\n{"task": 1, "done": 3}\n')
    assert JobLogs(tmp_path).read() == [{"task": 1, "done": 3}]


def test_a_job_that_ended_in_another_process_is_not_open(tmp_path):
    lost = JobLog(tmp_path, 3)
    lost.__enter__()
    logs = JobLogs(tmp_path)
    with JobLog(tmp_path, 3), JobLog(tmp_path, 4):
        logs.read()
        assert logs.num_open == 2
    logs.read()
    assert logs.num_open == 0


def test_a_killed_child_process_of_a_ray_task_is_an_error_that_ray_retries(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", make_import_path())  # as a task of Ray has it
    (tmp_path / JOB_LOGS).mkdir()
    (tmp_path / OUTPUT_LOGS).mkdir()
    (tmp_path / RUNNING_FILE).touch()
    (tmp_path / "killed").touch()
    save_job_array(tmp_path, JobArray(KILLED, tmp_path, ((0,),), tmp_path, (), read_versions()))
    with pytest.raises(RuntimeError, match="job 0 was ended by signal SIGKILL"):
        run_as_child(tmp_path, 0, 1)
    (tmp_path / "killed").unlink()
    assert run_as_child(tmp_path, 0, 1) == 0
    assert twice_file(tmp_path, 0).exists()


def test_jobs_of_a_killed_driver_on_an_unreachable_cluster_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    note = tmp_path / "cluster" / "scan-1" / RUNNING_FILE
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"slurm_job_name": "neox-code-scan-1"}))
    with pytest.raises(LaunchError, match=rf"Slurm jobs named neox-code-scan-1 .* may still be running.* remove {note}\.$"):
        end_leftover_jobs(tmp_path)


@pytest.mark.parametrize(
    ("state", "reason", "remedy"),
    [
        ("PENDING", "Resources", None),
        ("RUNNING", "None", None),
        (
            "PENDING",
            "PartitionTimeLimit",
            "The partition allows less time: change --time",
        ),
        (
            "PENDING",
            "DependencyNeverSatisfied",
            "The job that it depends on has failed.",
        ),
        (
            "PENDING",
            "launch failed requeued held",
            "The administrator, or Slurm after failed launches, holds it:",
        ),
    ],
)
def test_a_pending_job_that_will_never_start_is_an_error_with_a_remedy(state, reason, remedy):
    problem = find_unstartable_jobs({"7_0": JobState(state, reason)})
    assert problem is None if remedy is None else problem.startswith(f"Slurm job 7_0 will never start ({reason}). {remedy}")


def test_ending_leftover_jobs_is_fast_without_a_cluster(tmp_path):
    begin = time.monotonic()
    end_leftover_jobs(tmp_path)
    assert time.monotonic() - begin < 0.1
