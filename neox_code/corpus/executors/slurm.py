"""Run the jobs of an attempt on Slurm, as one job array of sbatch.

with ClusterExecutor(SlurmCluster(partition="cpu", time="02:00:00"), workers=64) as executor: ...
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neox_code.errors import ConfigError, LaunchError

UNFINISHED = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"),
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
}
"""Slurm's states of jobs that have not ended. In every other state, a job has ended."""

NEVER_STARTS = {
    "DependencyNeverSatisfied": "The job that it depends on has failed.",
    "PartitionTimeLimit": "The partition allows less time: change --time or --partition.",
    "PartitionNodeLimit": "The partition does not have the requested resources: change --partition or --mem-per-cpu.",
    "BadConstraints": "No node fulfills the request: change --partition, --mem-per-cpu or --sbatch.",
    "InvalidAccount": "The account is unknown: name one with --sbatch account=NAME.",
    "InvalidQOS": "The quality of service is unknown: name one with --sbatch qos=NAME.",
    "AccountNotAllowed": "The partition does not accept the account: change --sbatch account=NAME or --partition.",
    "QOSNotAllowed": "The partition does not accept the quality of service: change --sbatch qos=NAME or --partition.",
    "AssociationTimeLimit": "The account allows less time: change --time.",
    "QOSTimeLimit": "The quality of service allows less time: change --time.",
    "JobHeldAdmin": "The administrator, or Slurm after failed launches, holds it: see the logs of the nodes.",
    "JobHoldMaxRequeue": "It was requeued too often: see the logs of the nodes.",
}
"""Slurm's reason why a pending job will never start -> explanation and remedy."""

CANCEL_SECONDS = 90
CONTROLLER_TIMEOUT_SECONDS = 600
"""Seconds for which Slurm's controller may be unreachable, as during its restart, before the stage fails."""


@dataclass
class SlurmCluster:
    partition: str | None = None
    time: str = "04:00:00"
    mem_per_cpu_gb: int = 2
    sbatch: Sequence[str] = ()
    """Further options of sbatch, each NAME=VALUE."""
    name: str = field(default="Slurm", init=False)

    def require_cluster(self) -> None:
        if shutil.which("sbatch") is None:
            raise ConfigError("--executor slurm needs sbatch, which is not installed here. Run on a machine of the Slurm cluster.")
        self.partition = self.partition or find_default_partition()

    def start(self, name: str, folder: Path, command: Sequence[str], count: int, workers: int | None) -> "SlurmJobs":
        """Submit an attempt's jobs as one array; raise LaunchError if sbatch refuses it."""
        (folder / "job.sh").write_text(f"#!/bin/bash\nexec {shlex.join(command)} $SLURM_ARRAY_TASK_ID/{count}\n", encoding="utf-8")
        log = str(folder / "logs" / "slurm-").replace("%", "%%") + "%a.out"
        options = {
            "job-name": name,
            "array": f"0-{count - 1}" + (f"%{workers}" if workers else ""),
            "partition": self.partition,
            "time": self.time,
            "nodes": 1,
            "ntasks": 1,
            "cpus-per-task": 1,
            "mem-per-cpu": f"{self.mem_per_cpu_gb}G",
            "output": log,
            "error": log,
            "open-mode": "append",
        } | dict(option.split("=", 1) for option in self.sbatch)
        jobs = SlurmJobs(name)
        try:
            run_slurm("sbatch", "--requeue", *(f"--{key}={value}" for key, value in options.items()), str(folder / "job.sh"))
        except LaunchError as error:
            raise LaunchError(
                f"the jobs could not be started: {error} Change --partition, --time, --mem-per-cpu or --sbatch."
            ) from None
        except BaseException:
            jobs.cancel()
            raise
        return jobs


@dataclass(frozen=True)
class JobState:
    state: str
    reason: str

    @property
    def is_unfinished(self) -> bool:
        return self.state in UNFINISHED


class SlurmJobs:
    def __init__(self, name: str):
        self.name = name
        self.states: dict[str, JobState] = {}
        self._started = self._answered = time.monotonic()
        self._next_query = 0.0

    def is_over(self) -> bool:
        """Return True if all jobs have ended. Slurm's controller is queried less often as time passes.

        Raise LaunchError for jobs that will never start.
        """
        now = time.monotonic()
        if now < self._next_query:
            return False
        self._next_query = now + min(15.0, 1.0 + (now - self._started) / 30)
        try:
            self.states |= (listed := read_queue(self.name))
        except LaunchError:
            if now - self._answered > CONTROLLER_TIMEOUT_SECONDS:
                raise
            return False
        self._answered = now
        problem = find_unstartable_jobs(listed)
        if problem is not None:
            raise LaunchError(problem)
        return not any(job.is_unfinished for job in listed.values())

    def is_making_progress(self, num_open: int) -> bool:
        return any(job.state == "RUNNING" for job in self.states.values())

    def cancel(self) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            cancel_jobs(self.name)

    def describe_failures(self) -> str:
        ends = Counter(job.state for job in self.states.values() if job.state != "COMPLETED")
        return ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))


def remove_job_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables of a Slurm job in which this process may run, since new jobs inherit them.

    >>> remove_job_variables({"SLURM_ARRAY_TASK_ID": "3", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "me"})
    {'SLURM_CONF': '/etc/slurm.conf', 'SBATCH_ACCOUNT': 'me'}
    """
    return {name: value for name, value in environment.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}


def run_slurm(*command: str) -> str:
    """Run a Slurm command and return its output. Ctrl-C does not interrupt the command. Raise LaunchError if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=remove_job_variables(os.environ), start_new_session=True
    )
    if done.returncode:
        reason = " ".join(done.stderr.replace(f"{command[0]}: error: ", "").split())
        raise LaunchError(f"{command[0]} ended with status {done.returncode}: {reason}.")
    return done.stdout


def read_queue(name: str) -> dict[str, JobState]:
    """Return the state of every job with this name that is in Slurm's queue: jobs that have not ended or have ended recently."""
    answer = run_slurm(
        "squeue", "--noheader", "--array", "--states=all", f"--name={name}", f"--user={os.getuid()}", "--format=%i|%T|%r"
    )
    rows = (line.strip().split("|", 2) for line in answer.splitlines() if line.strip())
    return {job: JobState(state, reason) for job, state, reason in rows}


def has_jobs(name: str) -> bool:
    return any(job.is_unfinished for job in read_queue(name).values())


def cancel_jobs(name: str) -> None:
    """Cancel every job with this name, and wait until all have ended."""
    end = time.monotonic() + CANCEL_SECONDS
    run_slurm("scancel", f"--name={name}", f"--user={os.getuid()}")
    while has_jobs(name):
        if time.monotonic() > end:
            raise LaunchError(
                f"the Slurm jobs named {name} are cancelled and have not ended after {CANCEL_SECONDS} s. "
                f"Wait until `squeue --name={name}` lists none. Rerun the same command to resume."
            )
        time.sleep(0.5)


def find_unstartable_jobs(jobs: Mapping[str, JobState]) -> str | None:
    """Return the reason and remedy for a pending job that will never start; None if there is no such job."""
    for number, job in jobs.items():
        reason = "JobHeldAdmin" if re.match("launch.failed", job.reason) else job.reason
        if job.state == "PENDING" and reason in NEVER_STARTS:
            return f"Slurm job {number} will never start ({job.reason}). {NEVER_STARTS[reason]}"
    return None


def find_default_partition() -> str:
    names = [line.strip() for line in run_slurm("sinfo", "--noheader", "--format=%P").splitlines()]
    for name in names:
        if name.endswith("*"):
            return name[:-1]
    raise LaunchError(f"this Slurm has no default partition. Name one with --partition: {', '.join(sorted(names))}.")
