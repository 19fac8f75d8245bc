"""A stage's tasks on a Slurm cluster, as a job array.

with ClusterExecutor(SlurmCluster(partition="cpu", time="02:00:00"), workers=64) as executor: ...
"""

import contextlib
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from neox_code.corpus.executors.order import Order
from neox_code.corpus.executors.slurm_commands import SILENT_SECONDS, Element, cancel, default_partition, never_starts, queue
from neox_code.corpus.executors.submission import Submission, submit
from neox_code.errors import ConfigError, LaunchError


@dataclass
class SlurmCluster:
    partition: str | None = None
    time: str = "04:00:00"
    mem_per_cpu_gb: int = 2
    sbatch: Sequence[str] = ()
    """Further options, each NAME=VALUE."""
    name: str = field(default="Slurm", init=False)

    def check(self) -> None:
        if shutil.which("sbatch") is None:
            raise ConfigError("--executor slurm needs sbatch, which is not installed here. Run on a machine of the Slurm cluster.")
        self.partition = self.partition or default_partition()

    def start(self, order: Order, folder: Path, workers: int | None) -> "SlurmJob":
        job_name = f"neox-code-{order.stage.name}-{uuid4().hex[:8]}"
        settings = {
            "partition": self.partition,
            "time": self.time,
            "mem_per_cpu_gb": self.mem_per_cpu_gb,
            "job_name": job_name,
            "env_command": activation(),
            "sbatch_args": {"open-mode": "append"} | dict(option.split("=", 1) for option in self.sbatch),
        }
        submission = submit(folder, order, workers, settings, {"slurm_job_name": job_name})
        job = SlurmJob(job_name, submission)
        try:
            submission.finish()
        except BaseException:
            job.end()
            raise
        return job


def activation() -> str:
    """A line of bash that gives a job this interpreter and its environment."""
    activate = Path(sys.prefix, "bin", "activate")
    if sys.prefix != sys.base_prefix and activate.exists():
        return f"source {shell_word(activate)}"
    return f"export PATH={shell_word(Path(sys.executable).parent)}:$PATH"


def shell_word(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"


class SlurmJob:
    """The jobs of one attempt."""

    def __init__(self, name: str, submission: Submission):
        self.name = name
        self.submission = submission
        self.elements: dict[str, Element] = {}
        self._began = self._heard = time.monotonic()
        self._next = 0.0

    def is_over(self) -> bool:
        """Asks the controller now and then, less often the longer it takes. Raises LaunchError for jobs that will never start."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + min(15.0, 1.0 + (now - self._began) / 30)
        try:
            self.elements |= (listed := queue(self.name))
        except LaunchError:
            if now - self._heard > SILENT_SECONDS:
                raise
            return False
        self._heard = now
        sentence = never_starts(listed)
        if sentence is not None:
            raise LaunchError(sentence)
        return not any(element.is_unfinished for element in listed.values())

    def is_working(self, num_open: int) -> bool:
        return any(element.state == "RUNNING" for element in self.elements.values())

    def end(self) -> None:
        self.submission.end()
        with contextlib.suppress(KeyboardInterrupt):
            cancel(self.name)

    def account(self) -> str:
        """How the jobs ended that did not end well."""
        ends = Counter(element.state for element in self.elements.values() if element.state != "COMPLETED")
        return ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))
