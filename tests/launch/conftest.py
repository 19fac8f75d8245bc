"""A run in miniature: a supervisor, a launcher that behaves as DeepSpeed's does, and its ranks; each leaves its process number."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SUPERVISOR = """
    import os, sys
    from pathlib import Path
    from neox_code.launch.supervise import run
    Path("supervisor.pid").write_text(str(os.getpid()))
    status = run([sys.executable, "launcher.py", *sys.argv[1:]], {"ADDED": "by the test"})
    sys.exit(status)
"""

LAUNCHER = """
    import os, signal, subprocess, sys, time
    from pathlib import Path

    def end(number=None, frame=None, status=1):
        for rank in ranks:
            rank.terminate()
        for rank in ranks:
            rank.wait()
        print("the launcher has the last word but one", file=sys.stderr)
        sys.exit(status)

    ranks = [subprocess.Popen([sys.executable, "rank.py", *sys.argv[1:]], env={**os.environ, "RANK": str(i)}) for i in range(2)]
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    Path("launcher.pid").write_text(str(os.getpid()))
    while None in [rank.poll() for rank in ranks]:
        for rank in ranks:
            if rank.returncode:
                end(status=rank.returncode)
        time.sleep(0.05)
    sys.exit(max(rank.returncode for rank in ranks))
"""

RANK = """
    import os, signal, sys, time
    from pathlib import Path
    from neox_code.errors import ConfigError
    from neox_code.launch.supervise import run_rank

    def main(argv):
        Path(f"rank{os.environ['RANK']}.pid").write_text(str(os.getpid()))
        is_last = os.environ["RANK"] == "1"
        if "environment" in argv and is_last:
            print(os.environ["ADDED"])
        if "user-error" in argv and is_last:
            raise ConfigError("the width is wrong. Set another.")
        if "full-disk" in argv and is_last:
            raise OSError(28, "No space left on device", "/out/file")
        if "bug" in argv and is_last:
            raise ValueError("three is not four")
        if "crash" in argv and is_last:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "deaf-first" in argv:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if "stay" in argv or "deaf-first" in argv:
            time.sleep(60)
        return 0

    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(main(["stay"]))
    sys.exit(run_rank(main, sys.argv[1:]))
"""


class Chain:
    """The processes of a run in miniature."""

    names = ("supervisor", "launcher", "rank0", "rank1")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("supervisor", SUPERVISOR), ("launcher", LAUNCHER), ("rank", RANK)):
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        self.process: subprocess.Popen[str] | None = None

    def start(self, *behavior: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "supervisor.py", *behavior],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.process

    def processes(self, seconds: float = 60) -> dict[str, int]:
        """The process numbers, once all are there."""
        until = time.monotonic() + seconds
        while len(begun := self.begun()) < len(self.names):
            assert time.monotonic() < until, f"only {sorted(begun)} have begun"
            time.sleep(0.02)
        return begun

    def begun(self) -> dict[str, int]:
        """The process numbers of those that have begun."""
        files = {name: self.folder / f"{name}.pid" for name in self.names}
        return {name: int(text) for name, file in files.items() if file.exists() and (text := file.read_text())}


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def left_over():
    """The names of the processes that still run after so many seconds."""

    def wait(processes: dict[str, int], seconds: float) -> list[str]:
        until = time.monotonic() + seconds
        while (left := [name for name, process in processes.items() if is_running(process)]) and time.monotonic() < until:
            time.sleep(0.02)
        return left

    return wait


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    made = Chain(tmp_path)
    yield made
    for process in made.begun().values():
        if is_running(process):
            os.kill(process, 9)
    if made.process is not None:
        made.process.communicate()
