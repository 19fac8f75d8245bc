"""The sandbox against hostile programs: none reaches out of it, and none leaves a process or a file."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neox_code.errors import NeoXError
from neox_code.processes import sandbox as sandbox_module
from neox_code.processes.procfs import list_processes, read_command
from neox_code.processes.sandbox import (
    MOST_WAITING,
    TICK_SECONDS,
    Finished,
    Limits,
    Sandbox,
    execute,
    find_missing_parts,
    require_sandbox,
)

SYSTEM = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", sys.base_prefix]
LIMITS = Limits(seconds=1.0, memory_bytes=256 << 20, file_bytes=8 << 20, files=100, output_bytes=1000)
pytestmark = pytest.mark.skipif(bool(find_missing_parts()), reason=f"this machine lacks {find_missing_parts()}")

HOSTILE = {
    # name: (source, what its output has); `victim` is a file, `outside` a folder, `path` a listening socket of the user
    "reads the home folder": ("print(open(victim).read())", "Permission"),
    "writes to the home folder": ("open(outside + '/new', 'w')", "Permission"),
    "truncates a file": ("os.truncate(victim, 0)", "Error"),
    "opens to truncate": ("os.open(victim, os.O_RDONLY | os.O_TRUNC)", "Permission"),
    "changes a mode": ("os.chmod(victim, 0o777)", ""),
    "changes the mode of an open file": ("os.fchmod(os.open(sys.executable, os.O_RDONLY), 0o777)", ""),
    "changes times": ("os.utime(victim, (0, 0))", ""),
    "renames and removes": ("os.rename(victim, 'mine')", "Permission"),
    "removes": ("os.remove(victim)", "Permission"),
    "follows a link out": ("os.symlink(victim, 'link'); print(open('link').read())", "Permission"),
    "links a file": ("os.link(victim, 'link'); print(open('link', 'w'))", "Error"),
    "reads passwords": ("print(open('/etc/shadow').read())", "Permission"),
    "reads another process": ("print(open(f'/proc/{os.getppid()}/environ').read())", "Permission"),
    "reads a process's command": ("print(open('/proc/1/cmdline').read())", "Permission"),
    "reads the environment": ("print(sorted(os.environ)); assert 'HF_TOKEN' not in os.environ", "LC_CTYPE"),
    "connects to this host": ("import socket; socket.socket().connect(('127.0.0.1', 22))", "Operation not permitted"),
    "connects to a local socket": ("import socket; socket.socket(socket.AF_UNIX).connect(path)", "Operation not permitted"),
    "kills its parent": ("os.kill(os.getppid(), 9)", "Operation not permitted"),
    "kills everything": ("os.kill(-1, 9)", "Operation not permitted"),
    "changes a limit of its parent": (
        "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "Permission|not permitted",
    ),
    "slows its parent": ("os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)", "not permitted"),
    "traces its parent": ("print(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))", "-1"),
    "uses shared memory": ("print(ctypes.CDLL(None).shmget(77, 4096, 0o1666))", "-1"),
    "uses the keyring": ("print(ctypes.CDLL(None).syscall(250 if os.uname().machine == 'x86_64' else 219, 0, -4, 1))", "-1"),
    "uses io_uring": ("print(ctypes.CDLL(None).syscall(425, 8, 0))", "-1"),
    "makes a namespace": ("print(ctypes.CDLL(None).unshare(0x10000000))", "-1"),
    "makes a device": ("os.mknod('disk', 0o60600, os.makedev(254, 0)); print('made')", "Permission|not permitted"),
    "fills hidden memory": ("os.memfd_create('x')", "not permitted"),
    "fills memory": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "MemoryError"),
    "fills shared memory": ("import mmap; mmap.mmap(-1, 1 << 30)", "Cannot allocate"),
    "writes one large file": ("f = open('f', 'wb')\nwhile True: f.write(bytes(1 << 20))", "File too large"),
    "starts a process": ("os.fork()", "temporarily unavailable"),
    "starts a command": ("import subprocess; subprocess.run(['/bin/true'])", "temporarily unavailable"),
    "stops itself": ("os.kill(os.getpid(), 19)", "time"),
    "writes many files": ("for i in range(10 ** 9): open(str(i), 'w')", "files"),
    "makes deep folders": ("while True: os.mkdir('d'); os.chdir('d')", "files"),
    "writes without end": ("while True: os.write(1, b'x' * 65536)", "time"),
    "closes its output and sleeps": ("for i in (0, 1, 2): os.close(i)\ntime.sleep(60)", "time"),
    # with processes allowed
    "a fork bomb": ("while True:\n try: os.fork()\n except OSError: pass", "time"),
    "a daemon": ("if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(60)\n os._exit(0)\nprint('left')", "left"),
    "memory in many processes": ("for i in range(3): os.fork()\nx = bytearray(60 << 20)\ntime.sleep(60)", "memory"),
}
ENDLESS = ["stops itself", "writes without end", "closes its output and sleeps", "a fork bomb"]
WITH_PROCESSES = ["a fork bomb", "a daemon", "memory in many processes"]


def run_python(sandbox: Sandbox, source: str, limits: Limits) -> Finished:
    command = [os.path.realpath(sys.executable), "-I", "-S", "-c", "import ctypes, os, sys, time\n" + source]
    return sandbox.run(execute(command, {}), limits)


def list_left(folder: Path) -> list[str]:
    """Return the commands of processes that a program which names `folder` has left."""
    found = (read_command(process) for process in list_processes())
    return [command for command, _ in filter(None, found) if str(folder) in command]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SYSTEM) as made:
        yield made
    assert not made.folder.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_reaches_nothing_and_leaves_nothing(name, sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    victim, path = tmp_path / "victim", tmp_path / "socket"
    victim.write_text("secret text")
    before = victim.stat()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        names = f"victim, outside, path = {str(victim)!r}, {str(tmp_path)!r}, {str(path)!r}\n"
        limits = replace(LIMITS, processes=16 if name in WITH_PROCESSES else 1)
        if name not in ENDLESS:
            limits = replace(limits, seconds=30.0)  # on a busy machine
        finished = run_python(sandbox, names + HOSTILE[name][0], limits)
    output = f"{finished.exceeded} {(finished.stdout + finished.stderr).decode(errors='replace')}"
    assert any(expected in output for expected in HOSTILE[name][1].split("|")), output
    assert "secret" not in output.replace(str(victim), "") and "made" not in output
    after = victim.stat()
    assert (before.st_mode, before.st_size, before.st_mtime, before.st_nlink) == (
        after.st_mode,
        after.st_size,
        after.st_mtime,
        after.st_nlink,
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["socket", "victim"]
    assert len(finished.stdout) <= LIMITS.output_bytes + 64
    assert finished.seconds < (1 + MOST_WAITING) * limits.seconds + 5
    assert list_left(tmp_path) == []
    sandbox.clean()
    assert list(sandbox.folder.iterdir()) == []


def test_memory_that_a_program_has_from_its_parent_until_it_begins_is_not_its_own(sandbox):
    held = b"x" * LIMITS.memory_bytes

    def begin_late(report: int) -> None:
        time.sleep(4 * TICK_SECONDS)
        execute(["/bin/echo", "done"], {})(report)

    finished = sandbox.run(begin_late, LIMITS)
    assert (finished.stdout, finished.exceeded, len(held)) == (b"done\n", None, LIMITS.memory_bytes)


def test_the_time_limit_leaves_out_the_wait_for_a_core(sandbox):
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
        rivals = [subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) for _ in range(2)]
        assert all(rival.stdout and rival.stdout.readline() for rival in rivals)  # all of them run
        finished = run_python(sandbox, "while time.process_time() < 0.5: pass\nprint('done')", LIMITS)
    finally:
        os.sched_setaffinity(0, cores)
        for rival in rivals:
            rival.kill()
            rival.communicate()
    assert finished.seconds > LIMITS.seconds and (finished.stdout, finished.exceeded) == (b"done\n", None)
    for source in ("while True: pass", "time.sleep(60)"):
        assert run_python(sandbox, source, LIMITS).exceeded == "time"


def test_the_missing_parts_are_named_and_refused_unless_the_user_accepts(monkeypatch):
    monkeypatch.setattr(sandbox_module, "read_landlock_version", lambda: 0)
    with pytest.raises(NeoXError, match=r"(?s)the rules for files \(Landlock\).*--allow-weak-sandbox"):
        require_sandbox(allow_weak=False)
    require_sandbox(allow_weak=True)
    with Sandbox(SYSTEM) as weak:  # what remains still works
        assert run_python(weak, "import socket; socket.socket()", LIMITS).status == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="root can become an ordinary user")
def test_an_ordinary_user_has_the_same_sandbox(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path[:0] = {[str(Path(sandbox_module.__file__).parents[2])]!r}\n"
        "from neox_code.processes.sandbox import *\n"
        "os.environ['TMPDIR'] = sys.argv[1]; os.setgroups([]); os.setresgid(4242, 4242, 4242); os.setresuid(4242, 4242, 4242)\n"
        "box = Sandbox(['/usr', '/lib', '/lib64', '/bin'])\n"
        "bad = 'kill -9 $PPID; echo x > /tmp/out; : > f; chmod 777 f; (setsid sleep 77 &) ; for i in 1 2 3 4; do sleep 9 & done'\n"
        "done = box.run(execute(['/bin/sh', '-c', bad], {}), Limits(seconds=1.0, processes=4))\n"
        "print(done, find_missing_parts(), find_descendants(), oct(os.stat(box.folder / 'f').st_mode)); box.__exit__()\n"
    )
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run([sys.executable, "-I", str(script), str(tmp_path / "tmp")], capture_output=True, text=True)
    assert " [] [] 0o100600" in done.stdout, done
    assert "Operation not permitted" in done.stdout and "Permission denied" in done.stdout and "annot fork" in done.stdout
    time.sleep(0.05)
    assert not any("sleep 77" in command for command, _ in filter(None, map(read_command, list_processes())))
