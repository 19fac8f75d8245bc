"""Run the jobs of an attempt on a running Ray cluster, each as one Ray task.

    with ClusterExecutor(RayCluster(address="10.0.0.1:6379"), workers=64) as executor: ...

Another process, `python -m neox_code.corpus.executors.ray_driver`, is Ray's driver, because Ray installs signal handlers and writes
logs in its driver. When Ray's driver ends for any reason, Ray ends its tasks.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neox_code.corpus.executors.job_array import make_import_path
from neox_code.errors import EXIT_USER_ERROR, ConfigError, LaunchError

CONNECT_SECONDS = 20
END_SECONDS = 10


@dataclass
class RayCluster:
    address: str = "auto"
    mem_per_cpu_gb: int = 2
    name: str = field(default="Ray", init=False)

    def require_cluster(self) -> None:
        """Raise ConfigError if Ray is not installed or no Ray head answers at the address. Ray itself would wait for minutes."""
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("--executor ray needs ray: pip install 'neox-code[cluster]', on all machines.")
        if self.address == "auto":
            return
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"--ray-address {self.address} is not the HOST:PORT of a Ray head. Example: 10.0.0.1:6379.")
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"no Ray cluster at {self.address} ({reason}). Start one, or name its head with --ray-address."
            ) from None

    def start(self, name: str, folder: Path, command: Sequence[str], count: int, workers: int | None) -> "RayJobs":
        """Start a driver process that runs `count` jobs as Ray tasks. Job I runs the command with the last argument I/COUNT."""
        self.require_cluster()  # the cluster may have ended since the last attempt
        values = [folder, os.getpid(), count, workers or count, self.address, self.mem_per_cpu_gb]
        driver = [sys.executable, "-P", "-m", "neox_code.corpus.executors.ray_driver", *map(str, values)]
        with (folder / "ray.log").open("wb") as log:
            process = subprocess.Popen(
                driver,
                cwd=folder,  # Ray adds it to the import path of its workers
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": make_import_path()},
                start_new_session=True,
            )
        return RayJobs(process, folder / "ray.log")


class RayJobs:
    def __init__(self, process: subprocess.Popen[bytes], log: Path):
        self.process = process
        self.log = log

    def is_over(self) -> bool:
        """Return True if Ray's driver has ended. Raise LaunchError if the driver could not start the jobs."""
        status = self.process.poll()
        if status == EXIT_USER_ERROR:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            raise LaunchError(f"the jobs could not be started: {'; '.join(errors)} See {self.log}.")
        return status is not None

    def is_making_progress(self, num_open: int) -> bool:
        """Return True if the jobs should be making progress. `num_open` is the number of running jobs, from their logs."""
        return num_open > 0

    def cancel(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    continue

    def describe_failures(self) -> str:
        return f"Ray's driver ended with status {self.process.returncode}" if self.process.returncode else ""
