"""A pool of worker processes for a list of tasks; the workers end when the process that started them ends.

    with Workers(4) as workers:
        for index, result in workers.run(scan_batch, tasks):     # a task is a tuple of arguments, with any number of results
            ...

Results are yielded when they arrive; `index` is the number of the task. A worker is a fresh interpreter that imports the function's
module and not the caller's script: it is small, needs no `__main__` guard and inherits no threads. The workers are ended at once
when the block is left, or when the loop is left while a worker is busy. If a worker is killed (out of memory), DataError is raised
in the caller.
"""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from neox_code.errors import DataError
from neox_code.processes.parent import die_with_parent

RESULT, DONE, FAILED = range(3)


class Workers:
    """At most `count` worker processes, started as tasks arrive; a context manager.

    `remedy` is the last sentence of the error when a worker is killed.
    """

    def __init__(self, count: int, remedy: str = "Run again with fewer --workers."):
        self.count = count
        self.remedy = remedy
        self._processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self._busy: dict[Connection, int] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop_workers()

    def run(self, function: Callable[..., Iterable[Any]], tasks: Iterable[Sequence[Any]]) -> Iterator[tuple[int, Any]]:
        """Yield (index of the task, result) for every result of `function(*task)`, in the order in which they arrive.

        `function` is defined at the top of a module and yields its results; its exceptions are raised here. Tasks start in order.
        """
        try:
            for index, task in enumerate(tasks):
                while not self.has_free_worker:
                    yield from self.receive()
                self.start(index, function, task)
            while self._busy:
                yield from self.receive()
        finally:
            if self._busy:
                self._stop_workers()  # a later run must not receive the results of this one

    @property
    def has_free_worker(self) -> bool:
        """True if another task can be started."""
        return len(self._busy) < self.count

    def start(self, index: int, function: Callable[..., Iterable[Any]], task: Sequence[Any]) -> None:
        """Start a task on a free worker. `receive` yields the task's results."""
        worker = next((worker for worker in self._processes if worker not in self._busy), None) or self._start()
        self._send(worker, (function, task))
        self._busy[worker] = index

    def receive(self, timeout: float | None = None) -> Iterator[tuple[int, Any]]:
        """Yield each (index, result) that has arrived, after waiting up to `timeout` seconds for the first of them."""
        ready: list[Connection] = wait(list(self._busy), timeout)  # type: ignore[assignment]
        for worker in ready:
            while worker in self._busy and worker.poll():
                kind, value = self._receive(worker)
                if kind == RESULT:
                    yield self._busy[worker], value
                elif kind == DONE:
                    del self._busy[worker]
                else:
                    error, text = value
                    error.add_note(f"In a worker process:\n{text}")
                    raise error

    def _start(self) -> Connection:
        here, there = socket.socketpair()
        with there:
            command = [sys.executable, "-P", "-m", __name__, str(there.fileno()), str(os.getpid())]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
            process = subprocess.Popen(command, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, env=environment)
        worker: Connection = Connection(here.detach())
        self._processes[worker] = process
        return worker

    def _send(self, worker: Connection, message: Any) -> None:
        try:
            worker.send(message)
        except OSError:
            raise self._make_lost_error(worker) from None

    def _receive(self, worker: Connection) -> tuple[int, Any]:
        try:
            return worker.recv()
        except (EOFError, OSError):
            raise self._make_lost_error(worker) from None

    def _make_lost_error(self, worker: Connection) -> BaseException:
        status = self._processes[worker].wait()
        if status == -signal.SIGINT:
            return KeyboardInterrupt()
        how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return DataError(f"A worker process ended {how}; the machine may be out of memory. {self.remedy}")

    def _stop_workers(self) -> None:
        for process in self._processes.values():
            process.kill()
        for worker, process in self._processes.items():
            process.wait()
            worker.close()
        self._processes.clear()
        self._busy.clear()


def count_available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve_tasks(connection: Connection) -> None:
    """Receive tasks and send their results, until the other end is closed."""
    while True:
        function, arguments = connection.recv()
        try:
            for result in function(*arguments):
                connection.send((RESULT, result))
            connection.send((DONE, None))
        except Exception as error:
            connection.send((FAILED, (make_picklable(error), traceback.format_exc())))


def make_picklable(error: Exception) -> Exception:
    """Return the error, or a RuntimeError with its text if pickle cannot restore it: its class may need more than one argument."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def main(arguments: Sequence[str]) -> int:
    descriptor, parent = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(signal.SIGKILL, parent)
    with contextlib.suppress(EOFError, OSError):  # the other end has closed; the exceptions of tasks are sent, not raised
        serve_tasks(Connection(descriptor))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
