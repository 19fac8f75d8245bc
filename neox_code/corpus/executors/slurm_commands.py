"""Slurm's commands, and what their answers mean.

name = "neox-code-scan-5f0c"
state = queue(name)              # {"12_0": Element("RUNNING", "None"), ...}: of jobs that ended lately, too
cancel(name)
"""

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from neox_code.errors import LaunchError

UNFINISHED = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"),
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
}
"""States from which a job still comes to an end; every other is an end."""

WAITS_FOR_EVER = {
    "DependencyNeverSatisfied": "What it depends on has failed.",
    "PartitionTimeLimit": "The partition allows less time: change --time or --partition.",
    "PartitionNodeLimit": "The partition does not have what it asks for: change --partition or --mem-per-cpu.",
    "BadConstraints": "No node is as it asks: change --partition, --mem-per-cpu or --sbatch.",
    "InvalidAccount": "The account is not known: name one with --sbatch account=NAME.",
    "InvalidQOS": "The quality of service is not known: name one with --sbatch qos=NAME.",
    "AccountNotAllowed": "The partition does not take the account: name another with --sbatch account=NAME or --partition.",
    "QOSNotAllowed": "The partition does not take the quality of service: name another with --sbatch qos=NAME or --partition.",
    "AssociationTimeLimit": "The account allows less time: change --time.",
    "QOSTimeLimit": "The quality of service allows less time: change --time.",
    "JobHeldAdmin": "An administrator, or Slurm after failed launches, holds it: ask, or see the nodes' logs.",
    "JobHoldMaxRequeue": "It was started anew too often: see the nodes' logs.",
}
"""Reasons for which a job never starts by itself, and what to do."""

ENDS_WITHIN_SECONDS = 90
SILENT_SECONDS = 600
"""For which the controller may be away (it is restarted now and then) before the run gives up."""


@dataclass(frozen=True)
class Element:
    """One job of an array."""

    state: str
    reason: str

    @property
    def is_unfinished(self) -> bool:
        return self.state in UNFINISHED


def own_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without that of a job in which this process itself may be running: it is not for the jobs that it starts.

    >>> own_variables({"SLURM_ARRAY_TASK_ID": "3", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "me"})
    {'SLURM_CONF': '/etc/slurm.conf', 'SBATCH_ACCOUNT': 'me'}
    """
    return {name: value for name, value in environment.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}


def ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own_variables(os.environ))
    if done.returncode:
        raise LaunchError(f"{command[0]} ended with status {done.returncode}: {done.stderr.strip()}. Is Slurm up?")
    return done.stdout


def queue(name: str) -> dict[str, Element]:
    """The state of every job of that name which has not ended, or not long ago."""
    answer = ask("squeue", "--noheader", "--array", "--states=all", f"--name={name}", f"--user={user()}", "--format=%i|%T|%r")
    rows = (line.strip().split("|", 2) for line in answer.splitlines() if line.strip())
    return {job: Element(state, reason) for job, state, reason in rows}


def has_jobs(name: str) -> bool:
    return any(element.is_unfinished for element in queue(name).values())


def cancel(name: str) -> None:
    """Cancels every job of that name, and waits until none is left."""
    end = time.monotonic() + ENDS_WITHIN_SECONDS
    ask("scancel", f"--name={name}", f"--user={user()}")
    while has_jobs(name):
        if time.monotonic() > end:
            raise LaunchError(
                f"jobs called {name} are cancelled and have not ended after {ENDS_WITHIN_SECONDS} s. "
                f"See `squeue --name={name}`, and run the same command again when they have."
            )
        time.sleep(0.5)


def never_starts(elements: Mapping[str, Element]) -> str | None:
    """A sentence on the jobs that wait for what will not come."""
    for job, element in elements.items():
        if element.state == "PENDING":
            word = "JobHeldAdmin" if re.match("launch.failed", element.reason) else element.reason
            if word in WAITS_FOR_EVER:
                return f"job {job} will never start ({element.reason}). {WAITS_FOR_EVER[word]}"
    return None


def default_partition() -> str:
    names = [line.strip() for line in ask("sinfo", "--noheader", "--format=%P").splitlines()]
    for name in names:
        if name.endswith("*"):
            return name[:-1]
    raise LaunchError(f"this Slurm has no default partition. Name one with --partition: {', '.join(sorted(names))}.")


def user() -> str:
    return str(os.getuid())
