"""A run in miniature: a supervisor, the launcher of a host and its ranks, without torch; each leaves its process number."""

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
    launcher = [sys.executable, "-m", "neox_code.launch.ranks", '--hosts={"localhost": ["0", "1"]}', "--module", "rank"]
    timeout = next((float(word) for word in sys.argv[1:] if word[0].isdigit()), 600)
    sys.exit(run([*launcher, *sys.argv[1:]], {"ADDED": "by the test"}, timeout))
"""

RANK = """
    import os, signal, sys, time
    from pathlib import Path
    from neox_code.errors import EXIT_RESUME, ConfigError
    from neox_code.launch.stop_signals import StopRequest
    from neox_code.launch.rank_process import run_rank

    stop = StopRequest()

    def leave_number():
        for name, number in ((f"rank{os.environ['RANK']}", os.getpid()), ("launcher", os.getppid())):
            Path(f"{name}{os.getpid()}.new").write_text(str(number))
            Path(f"{name}{os.getpid()}.new").rename(f"{name}.pid")

    def main(argv):
        is_last = os.environ["RANK"] == "1"
        if "starting" not in argv:
            stop.defer(1.0 if "rank-timeout" in argv else 600)
        leave_number()
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
        while "stay" in argv and not stop.is_requested:
            time.sleep(0.02)
        if "hang" in argv or "starting" in argv:
            time.sleep(60)
        if "slow-save" in argv:
            Path(f"saving{os.environ['RANK']}").touch()
            while not Path("saved").exists():
                time.sleep(0.02)
        return EXIT_RESUME if stop.is_requested else 0

    if "deaf" in sys.argv:
        leave_number()
        time.sleep(60)
    stop.start()
    sys.exit(run_rank(main, sys.argv[1:]))
"""


class Chain:
    """The processes of a run in miniature."""

    names = ("supervisor", "launcher", "rank0", "rank1")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("supervisor", SUPERVISOR), ("rank", RANK)):
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        self.process: subprocess.Popen[str] | None = None

    def start(self, *behavior: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{self.folder}"}
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
