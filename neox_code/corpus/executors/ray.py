"""A stage's tasks on a Ray cluster that is running.

    with ClusterExecutor(RayCluster(address="10.0.0.1:6379"), workers=64) as executor: ...

A process of its own is Ray's driver: when it ends, however it ends, Ray ends what it has started.
"""

import importlib.util
import socket
from dataclasses import dataclass, field
from pathlib import Path

from neox_code.corpus.executors.order import Order
from neox_code.corpus.executors.submission import Submission, submit
from neox_code.errors import EXIT_USER_ERROR, ConfigError

CONNECT_SECONDS = 20


@dataclass
class RayCluster:
    address: str = "auto"
    mem_per_cpu_gb: int = 2
    name: str = field(default="Ray", init=False)

    def check(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("--executor ray needs ray: pip install 'neox-code[cluster]', on all machines.")
        if self.address != "auto":
            refuse_silent_address(self.address)

    def start(self, order: Order, folder: Path, workers: int | None) -> "RayJob":
        self.check()  # it may have gone since the last attempt
        settings = {"address": self.address, "mem_per_cpu_gb": self.mem_per_cpu_gb}
        return RayJob(submit(folder, order, workers, settings, {}))


def refuse_silent_address(address: str) -> None:
    """Ray itself takes minutes to find that nobody answers."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--ray-address {address} is not HOST:PORT of a Ray head, as 10.0.0.1:6379.")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"no Ray cluster at {address} ({why}). Start one, or name its head with --ray-address.") from None


class RayJob:
    """The jobs of one attempt."""

    def __init__(self, submission: Submission):
        self.submission = submission

    def is_over(self) -> bool:
        if not self.submission.has_ended():
            return False
        if self.submission.process.returncode == EXIT_USER_ERROR:
            self.submission.finish()
        return True

    def is_working(self, num_open: int) -> bool:
        return num_open > 0

    def end(self) -> None:
        self.submission.end()

    def account(self) -> str:
        status = self.submission.process.returncode
        return f"Ray's driver, with status {status}" if status else ""
