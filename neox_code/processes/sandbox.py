"""Run a program of a stranger so that it can neither harm this machine nor outlive its limits. Linux, no root, no container.

    with Sandbox(readable=["/usr", "/lib", "/lib64"]) as sandbox:
        sandbox.run(execute(["/usr/bin/ruby", "program.rb"]), Limits(seconds=3.0))     # -> Finished(status=0, stdout=b"...", ...)

Each program is a child process that confines itself before its first instruction (`Sandbox.confine`):

    files        Landlock: `readable` can be read and executed, the private folder can be written, nothing else can be opened
    system calls seccomp: no socket (not even to this host), no tracing, signals or limits of other processes, no keys, no shared
                 memory, no io_uring, no namespaces. Changes of modes, owners and times are accepted and ignored
    processes    none beside threads by seccomp, or `Limits.processes`; all are killed when the first one ends
    user         when started by root: a user id of its own, whose only capability is to read what Landlock allows
    memory, files, output, time    by resource limits, and by this process, which checks them 20 times a second

Sources: landlock(7), seccomp(2), capabilities(7), prctl(2). `sandlock` 0.9.0 was tried instead: a program could change modes and
times of files outside and limits of other processes, and fill 5 GB by memfd_create. It needs Linux 6.12 and 40 ms a program.
"""

import errno
import functools
import math
import os
import platform
import re
import resource
import select
import signal
import stat
import struct
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ctypes import CDLL, Array, PyDLL, addressof, c_char, c_long, get_errno
from dataclasses import dataclass
from pathlib import Path

from neox_code.errors import NeoXError
from neox_code.processes.procfs import list_processes, read_process_cpu_seconds, read_stat, read_waited_seconds

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine -> AUDIT_ARCH, by which a filter recognizes system calls of another table (32 bits)."""

CALLS = {
    name: (int(x86_64), int(aarch64))
    for name, x86_64, aarch64 in re.findall(
        r"(\w+):(-?\d+):(-?\d+)",
        """
        socket:41:198 ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 pidfd_getfd:438:438
        pidfd_send_signal:424:424 kcmp:312:272 io_uring_setup:425:425 keyctl:250:219 add_key:248:217 request_key:249:218
        shmget:29:194 semget:64:190 msgget:68:186 mq_open:240:180 memfd_create:319:279 memfd_secret:447:447 unshare:272:97
        setns:308:268 open_by_handle_at:304:265 bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 setpriority:141:140
        sched_setscheduler:144:119 sched_setparam:142:118 sched_setattr:314:274 sched_setaffinity:203:122 ioprio_set:251:30
        migrate_pages:256:238 move_pages:279:239 process_madvise:440:440 process_mrelease:448:448 setxattr:188:5 lsetxattr:189:6
        fsetxattr:190:7 removexattr:197:14 lremovexattr:198:15 fremovexattr:199:16 truncate:76:45 openat2:437:437 clone:56:220
        clone3:435:435 fork:57:-1 vfork:58:-1 kill:62:129 tkill:200:130 tgkill:234:131 rt_sigqueueinfo:129:138
        rt_tgsigqueueinfo:297:240 prlimit64:302:261 fcntl:72:25 chmod:90:-1 fchmod:91:52 fchmodat:268:53 fchmodat2:452:452
        chown:92:-1 fchown:93:55 lchown:94:-1 fchownat:260:54 utime:132:-1 utimes:235:-1 futimesat:261:-1 utimensat:280:88
        """,
    )
}
"""System call -> its numbers on x86_64 and aarch64; -1 where it does not exist."""

LAST_CALL = 462
"""Newer system calls than this one (mseal) fail with ENOSYS: no rule here has considered them."""

IGNORED = re.findall(r"\w+", "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat")
"""They succeed without effect. Landlock does not restrict them, and programs that copy or link files stop when they fail."""

SIGNALS = ["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"]
WITH_OWN_RULE = {*IGNORED, *SIGNALS, "prlimit64", "clone", "clone3", "fork", "vfork", "fcntl", "truncate", "openat2"}

CLONE_THREAD, CLONE_NAMESPACES = 0x10000, 0x7E020000
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = (
    1,
    8,
    22,
    36,
    38,
    47,
)
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ_RIGHTS, FILE_RIGHTS, WRITE_RIGHT = 0b1101, 0b100000000000110, 0b10
"""Landlock's rights: execute, read file and read folder; those of a file (write, read, truncate)."""
DEVICE_RIGHTS = 1 << 6 | 1 << 11 | 1 << 15
"""Making character and block devices, and ioctl on devices: never allowed."""
FIRST_USER = 2_000_000_000
"""A program that root runs has this user id plus the id of the process that supervises it: no one else has it."""
PROCESS = 0x7FFFFFFD
"""Stands for the program's process id in a filter; no process has this id."""
TICK_SECONDS = 0.05
MOST_WAITING = 9
DEVICES = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]


@dataclass(frozen=True)
class Limits:
    seconds: float = 3.0
    """By the clock. Until its CPU time reaches this limit, the time that the program waits for a core does not count, up to
    MOST_WAITING times the limit: on a busy machine a program gets what it gets on an idle one."""
    memory_bytes: int = 2 << 30
    """Of one process by the kernel, of all together by supervision."""
    reserves_memory: bool = False
    """True for runtimes that reserve far more address space than they use (Java, Node.js, Go): only written memory counts."""
    processes: int = 1
    file_bytes: int = 256 << 20
    """Of all files in the private folder together."""
    files: int = 1000
    open_files: int = 256
    output_bytes: int = 1 << 20
    """Of standard output and of standard error; what a program writes beyond is discarded, except for its last 64 bytes."""


@dataclass(frozen=True)
class Finished:
    status: int
    """Exit status, or minus the signal that ended the program."""
    stdout: bytes
    stderr: bytes
    report: bytes
    """Bytes that the program's own harness wrote to the descriptor that `target` was given."""
    seconds: float
    exceeded: str | None = None
    """The limit for which the program was killed: "time", "memory", "files"."""


class OwnerEnded(Exception):
    """The process that asked for the program has ended."""


libc = CDLL(None, use_errno=True)
prctl, syscall, capset = libc.prctl, libc.syscall, libc.capset
fork = PyDLL(None).fork
"""Fork without Python's own handlers, which write to 200 pages. A process with one thread needs them only to seed `random` again:
programs of one process draw the same numbers."""


def call_kernel(function: Callable, *arguments: object) -> int:
    """Return the result of a function of libc; raise OSError if it is negative."""
    result = function(*(c_long(value) if isinstance(value, int) else value for value in arguments))
    if result < 0:
        raise OSError(get_errno(), os.strerror(get_errno()))
    return result


def read_landlock_version() -> int:
    """Return the version of the kernel's Landlock; 0 without it."""
    with suppress(OSError):
        return call_kernel(syscall, LANDLOCK_CREATE, None, 0, 1)
    return 0


def read_capabilities() -> int:
    """Return the bits of this process's permitted capabilities."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["CapPrm"], 16)


def find_missing_parts() -> list[str]:
    """Return the parts of the sandbox that this machine lacks, each with what would provide it; empty if it is whole."""
    if platform.system() != "Linux":
        return ["everything: the sandbox needs Linux"]
    parts = []
    if platform.machine() not in MACHINES:
        parts.append(f"the filter of system calls (seccomp): its table has {' and '.join(MACHINES)}, not {platform.machine()}")
    else:
        with suppress(OSError):  # EFAULT: the kernel has filters and read the null pointer
            call_kernel(prctl, PR_SET_SECCOMP, 2, 0, 0, 0)
        if get_errno() != errno.EFAULT:
            parts.append("the filter of system calls (seccomp): the kernel needs CONFIG_SECCOMP_FILTER")
    if not read_landlock_version():
        parts.append(
            "the rules for files (Landlock): Linux 5.13 or newer with `landlock` in /sys/kernel/security/lsm, in a container too"
        )
    if os.geteuid() == 0 and find_user() is None and Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]:
        parts.append("the limit of processes: root without the capabilities SETUID, SETGID and CHOWN; run as another user")
    return parts


def require_sandbox(allow_weak: bool) -> None:
    """Raise NeoXError with the parts of the sandbox that this machine lacks, unless the user accepts that."""
    if (parts := find_missing_parts()) and not allow_weak:
        raise NeoXError(
            "programs of a model or of a file are run in a sandbox, and this machine lacks a part of it:\n"
            + "\n".join(f"- {part}" for part in parts)
            + "\nRun on another machine, or pass --allow-weak-sandbox if you trust the programs."
        )


def find_user() -> int | None:
    """Return the user id for the programs of this process; None if it may not change its user."""
    user, capabilities = FIRST_USER + os.getpid(), read_capabilities()
    mapped = any(
        int(first) <= user < int(first) + int(count)
        for first, _, count in (line.split() for line in Path("/proc/self/uid_map").read_text().splitlines())
    )
    return user if mapped and capabilities & 0b11000001 == 0b11000001 else None  # CHOWN, SETGID, SETUID


def build_ruleset(readable: Sequence[str], writable: Sequence[str]) -> int | None:
    """Return the descriptor of a Landlock ruleset; None if the kernel has none. Paths that do not exist are left out."""
    if not (version := read_landlock_version()):
        return None
    handled = (1 << (13 if version == 1 else 14 if version == 2 else 15 if version < 5 else 16)) - 1
    attributes = struct.pack("QQQ", handled, 0b11, 0b11)[: 8 if version < 4 else 16 if version < 6 else 24]  # TCP; sockets, signals
    ruleset = call_kernel(syscall, LANDLOCK_CREATE, attributes, len(attributes), 0)
    rules = [(path, READ_RIGHTS) for path in readable] + [(path, handled & ~DEVICE_RIGHTS) for path in writable]
    rules += [(path, 0b100 | WRITE_RIGHT * (path == "/dev/null")) for path in DEVICES]
    for path, rights in rules:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= FILE_RIGHTS | 1
        call_kernel(syscall, LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights & handled, opened), 0)
        os.close(opened)
    return ruleset


@functools.cache
def build_filter(alone: bool) -> tuple[Array[c_char], list[int], bytes]:
    """Return a seccomp filter: its instructions of BPF, the offsets of the program's process id in them, and its header for prctl.

    `alone`: the program may start threads but no processes.
    """
    machine = platform.machine()
    version = read_landlock_version()
    load, equal, greater, at_least, any_bit, give = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
    allow, fail = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    low = [16, 24]  # offsets of the low halves of the first two arguments in struct seccomp_data

    code = [(load, 0, 0, 4), (equal, 1, 0, MACHINES[machine]), (give, 0, 0, 0x80000000), (load, 0, 0, 0)]
    code += [(greater, 0, 1, LAST_CALL), (give, 0, 0, fail | errno.ENOSYS)]

    bodies: dict[int, tuple[tuple[int, int, int, int], ...]] = {}

    def add(name: str, *body: tuple[int, int, int, int]) -> None:
        number = CALLS[name][list(MACHINES).index(machine)]
        if number >= 0:
            bodies[number] = body

    def search(numbers: list[int]) -> list[tuple[int, int, int, int]]:
        """Return instructions that find a call's body by bisection: the kernel runs a new filter for every call it has."""
        if len(numbers) <= 3:
            return [part for number in numbers for part in ((equal, 0, len(bodies[number]), number), *bodies[number])] + [accept]
        first, second = (search(part) for part in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]))
        return [(at_least, len(first), 0, numbers[len(numbers) // 2]), *first, *second]

    refuse, accept = (give, 0, 0, fail | errno.EPERM), (give, 0, 0, allow)
    for name in CALLS.keys() - WITH_OWN_RULE:
        add(name, (give, 0, 0, fail | errno.EPERM))
    for name in IGNORED:
        add(name, (give, 0, 0, fail))
    if version < 3:  # Landlock does not restrict truncation yet
        add("truncate", (give, 0, 0, fail | errno.EPERM))
        add("openat2", (give, 0, 0, fail | errno.ENOSYS))
    for name in ["prlimit64", *(SIGNALS if alone or version < 6 else [])]:
        add(name, (load, 0, 0, low[0]), (equal, 2, 0, PROCESS), (equal, 1, 0, 0), refuse, accept)
    add("fcntl", (load, 0, 0, low[1]), (equal, 2, 0, F_SETOWN), (equal, 1, 0, F_SETSIG), (equal, 0, 1, F_SETOWN_EX), refuse, accept)
    add("clone3", (give, 0, 0, fail | errno.ENOSYS))  # its flags lie in memory, which a filter cannot read; libc then calls clone
    again = (give, 0, 0, fail | errno.EAGAIN)
    thread = [(any_bit, 1, 0, CLONE_THREAD), again] if alone else []
    add("clone", (load, 0, 0, low[0]), (any_bit, 0, 1, CLONE_NAMESPACES), refuse, *thread, accept)
    if alone:
        add("fork", again)
        add("vfork", again)
    code += search(sorted(bodies))
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    instructions = (c_char * len(packed)).from_buffer_copy(packed)
    places = [8 * number + 4 for number, instruction in enumerate(code) if instruction[3] == PROCESS]
    return instructions, places, struct.pack("HP", len(code), addressof(instructions))


def execute(command: Sequence[str], environment: Mapping[str, str], folder: str = "") -> Callable[[int], None]:
    """Return a target of `Sandbox.run` that executes a command in a folder of the private folder; its first word is a path."""

    def target(report: int) -> None:
        os.chdir(folder or ".")
        os.execve(command[0], list(command), dict(environment))

    return target


class Sandbox:
    """A private folder and the rules for the programs that run in it, one after the other.

    `readable` are files and folders that programs can read and execute, `writable` those that compilers can write as well.
    `owner` is a descriptor whose end of file means that this process's owner has ended: `run` then raises OwnerEnded. Of a process
    with one thread, `single_thread`, programs start faster.
    """

    def __init__(
        self, readable: Sequence[str], writable: Sequence[str] = (), owner: int | None = None, single_thread: bool = False
    ):
        self.fork = fork if single_thread else os.fork
        self.folder = Path(tempfile.mkdtemp(prefix="neox-code-sandbox-"))
        self.owner = owner
        self.readable, self.writable = tuple(readable), tuple(writable)
        self.user = find_user() if os.geteuid() == 0 else None
        self.capabilities = read_capabilities()
        if self.user is not None:
            os.chown(self.folder, self.user, self.user)
        self.rulesets: dict[bool, int | None] = {}
        call_kernel(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of a program become children of this process

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *exception: object) -> None:
        self.clean()
        self.folder.rmdir()

    def clean(self) -> None:
        """Remove everything in the private folder."""
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                subprocess.run(["rm", "-rf", "--", path], check=True)  # at any depth, which Python's recursion does not reach
            else:
                path.unlink()

    def write(self, name: str, content: str) -> None:
        """Write a file into the private folder, for the next program. Raise ValueError for a path that leaves the folder."""
        path = self.folder / name
        if ".." in path.parts or not path.is_relative_to(self.folder):
            raise ValueError(f"{name} is no path of a file below the folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
        if self.user is not None:
            os.chown(path, self.user, self.user)

    def unpack(self, archive: str, folder: str) -> int:
        """Write the files of a zip archive to a folder in the private folder, for the next program; return their number."""
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(self.folder / folder)  # no links, and no file outside the folder
            count = len(opened.infolist())
        if self.user is not None:
            for path in [self.folder / folder, *(self.folder / folder).rglob("*")]:
                os.chown(path, self.user, self.user)
        return count

    def make_executable(self, name: str) -> None:
        """Allow that the file be executed, if a program has made it. A linker cannot: changes of modes are ignored."""
        with suppress(OSError):
            opened = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            os.fchmod(opened, 0o755)
            os.close(opened)

    def run(self, target: Callable[[int], None], limits: Limits, stdin: bytes = b"", may_write: bool = False) -> Finished:
        """Run `target(report descriptor)` in a confined child process; return when no process of it is left.

        `may_write`: the folders in `writable` can be written, which is for compilers and their caches.
        """
        if may_write not in self.rulesets:
            extra = list(self.writable) if may_write else []
            self.rulesets[may_write] = build_ruleset([*self.readable, *self.writable], [str(self.folder), *extra])
        if platform.machine() in MACHINES:
            build_filter(limits.processes == 1)  # before the fork, for all programs
        pipes = [os.pipe() for _ in range(3)]
        source = open_input(stdin)
        alone = limits.processes == 1 and platform.machine() in MACHINES
        others = [] if alone else find_descendants()
        begin = time.monotonic()
        child = self.fork()
        if child == 0:
            try:
                for wanted, given in enumerate([source, pipes[0][1], pipes[1][1]]):
                    os.dup2(given, wanted)
                report = os.dup(pipes[2][1])
                os.set_inheritable(report, False)
                self.confine(limits, may_write, keep=report)
                target(report)
            except OSError as error:
                os.write(2, f"{error}\n".encode())
            finally:
                os._exit(127)
        os.close(source)
        for _, writing in pipes:
            os.close(writing)
        collected, exceeded = [bytearray(), bytearray(), bytearray()], None
        try:
            exceeded = self.supervise(child, limits, begin, [reading for reading, _ in pipes], collected, others)
        finally:
            status = kill_with_descendants(child, others, alone)
            seconds = time.monotonic() - begin
            for (reading, _), output in zip(pipes, collected, strict=True):
                while data := os.read(reading, 1 << 16):
                    keep_output(output, data, limits.output_bytes)
                os.close(reading)
        stdout, stderr, text = map(bytes, collected)
        return Finished(os.waitstatus_to_exitcode(status), stdout, stderr, text, seconds, exceeded)

    def supervise(
        self, child: int, limits: Limits, begin: float, pipes: list[int], collected: list[bytearray], others: list[int]
    ) -> str | None:
        """Read the program's output until it ends; return the limit that it exceeded. `others` are this process's own children."""
        deadline = begin + limits.seconds
        ending = os.pidfd_open(child)
        poll = select.poll()
        for descriptor in [ending, *pipes] + ([] if self.owner is None else [self.owner]):
            poll.register(descriptor, select.POLLIN)
        next_check = time.monotonic() + TICK_SECONDS
        is_forked = True  # and has this process's memory too, until it executes another program
        try:
            while True:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    family = [child] if limits.processes == 1 else [child, *find_descendants(others)]
                    if sum(map(read_process_cpu_seconds, family)) >= limits.seconds:
                        return "time"
                    deadline = begin + limits.seconds + min(max(map(read_waited_seconds, family)), MOST_WAITING * limits.seconds)
                    if time.monotonic() >= deadline:
                        return "time"
                    continue
                for descriptor, _ in poll.poll(1000 * min(remaining, TICK_SECONDS)):
                    if descriptor == ending:
                        return None
                    if descriptor == self.owner:
                        raise OwnerEnded
                    output = collected[pipes.index(descriptor)]
                    if data := os.read(descriptor, 1 << 16):
                        keep_output(output, data, limits.output_bytes)
                    else:
                        poll.unregister(descriptor)
                        is_forked &= descriptor != pipes[2]  # the report's descriptor is closed by execve
                if time.monotonic() >= next_check:
                    family = [child] if limits.processes == 1 else find_descendants(others)
                    if measure_memory(family) > limits.memory_bytes + (measure_memory([os.getpid()]) if is_forked else 0):
                        return "memory"
                    if self.has_too_many_files(limits):
                        return "files"
                    next_check = time.monotonic() + TICK_SECONDS
        finally:
            os.close(ending)

    def has_too_many_files(self, limits: Limits) -> bool:
        """Return True if the private folder holds more entries or bytes than allowed."""
        folders, count, num_bytes = [str(self.folder)], 0, 0
        while folders:
            with suppress(OSError), os.scandir(folders.pop()) as entries:  # the program removes and renames at the same time
                for entry in entries:
                    count += 1
                    num_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
                    if count > limits.files or num_bytes > limits.file_bytes:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        return False

    def confine(self, limits: Limits, may_write: bool, keep: int) -> None:
        """Confine this process for ever. Of its open files, 0, 1, 2 and `keep` remain."""
        os.setsid()
        os.chdir(self.folder)
        os.umask(0o077)
        bounds = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_CPU: math.ceil(limits.seconds) + 1,
            resource.RLIMIT_FSIZE: limits.file_bytes,
            resource.RLIMIT_NOFILE: limits.open_files,
            resource.RLIMIT_DATA if limits.reserves_memory else resource.RLIMIT_AS: limits.memory_bytes,
        }
        if limits.processes > 1:
            bounds[resource.RLIMIT_NPROC] = limits.processes + (0 if self.user is not None else count_tasks(os.geteuid()))
        for kind, bound in bounds.items():
            most = resource.getrlimit(kind)[1]
            bound = bound if most == resource.RLIM_INFINITY else min(bound, most)
            resource.setrlimit(kind, (bound, bound))
        self.drop_privileges(may_write)
        call_kernel(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        call_kernel(prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        ruleset = self.rulesets[may_write]
        if ruleset is not None:
            call_kernel(syscall, LANDLOCK_RESTRICT, ruleset, 0)
        os.closerange(3, keep)
        os.closerange(keep + 1, 4096)
        if platform.machine() in MACHINES:
            instructions, places, header = build_filter(limits.processes == 1)
            for place in places:
                struct.pack_into("I", instructions, place, os.getpid())
            call_kernel(prctl, PR_SET_SECCOMP, 2, header, 0, 0)

    def drop_privileges(self, may_write: bool) -> None:
        """Become the user of this sandbox, if there is one, and drop all capabilities except for opening files."""
        kept = 0
        if self.user is not None:
            wanted = (CAP_DAC_OVERRIDE,) if may_write else (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE)
            capability = next((number for number in wanted if self.capabilities >> number & 1), None)
            if capability is not None:
                kept = 1 << capability
                call_kernel(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0)
            os.setgroups([])
            os.setresgid(self.user, self.user, self.user)
            os.setresuid(self.user, self.user, self.user)
        version = struct.pack("Ii", 0x20080522, 0)
        call_kernel(capset, version, struct.pack("6I", kept, kept, kept, 0, 0, 0))
        if kept:  # the capability remains after execve
            call_kernel(prctl, PR_CAP_AMBIENT, 2, capability, 0, 0)


def keep_output(output: bytearray, data: bytes, most: int) -> None:
    """Append data to a program's output; of what exceeds `most` bytes, keep the last 64: a harness reports the end there."""
    output += data
    if len(output) > most:
        del output[most:-64]


def open_input(content: bytes) -> int:
    """Return a descriptor from which a program can read its standard input."""
    if not content:
        return os.open(os.devnull, os.O_RDONLY)
    with os.fdopen(os.memfd_create("stdin"), "wb") as file:
        file.write(content)
        file.flush()
        return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)


def find_descendants(others: Sequence[int] = ()) -> list[int]:
    """Return the ids of all processes below this one, except for `others` and those below them."""
    children: dict[int, list[int]] = {}
    for process in list_processes():
        if fields := read_stat(Path("/proc", str(process))):
            children.setdefault(int(fields[1]), []).append(process)
    found = [process for process in children.get(os.getpid(), []) if process not in others]
    for process in found:
        found += children.get(process, [])
    return found


def kill_with_descendants(child: int, others: Sequence[int], alone: bool) -> int:
    """Kill a child and, unless it is `alone`, every process below this one except for `others`; return the child's wait status."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    while not alone and (left := find_descendants(others)):
        for process in left:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, os.WNOHANG)  # of a grandchild: ChildProcessError, until its parent has ended
    return status


def measure_memory(processes: Sequence[int]) -> int:
    """Return the resident bytes of processes."""
    pages = 0
    for process in processes:
        with suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def count_tasks(user: int) -> int:
    """Return the number of a user's threads on this machine."""
    count = 0
    for process in list_processes():
        folder = Path("/proc", str(process))
        with suppress(OSError):
            if folder.stat().st_uid == user:
                count += int(read_stat(folder)[17])
    return count
