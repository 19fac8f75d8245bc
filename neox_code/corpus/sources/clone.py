"""Clone one commit of a repository as a bare repository, within limits of time and size, and without running its code.

    clone("https://github.com/torvalds/linux.git", Path("/tmp/linux.git"), CloneLimits())    # CloneError on failure

Git runs without the configuration of the user and the system, and without templates, hooks, tags, submodules, LFS and prompts. It
uses only the protocol of the address; for http also https, because servers redirect. A bare clone has no work tree, so filters and
attributes of the repository have no effect.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event

from neox_code.corpus.sources.git import GIT, make_git_environment
from neox_code.corpus.sources.source_names import make_printable
from neox_code.errors import DataError
from neox_code.processes.parent import die_with_parent
from neox_code.processes.procfs import find_state

PROTOCOLS = {"https": "https", "http": "http:https", "git": "git", "ssh": "ssh", "file": "file"}
"""The scheme of an address -> the protocols that git may use."""
SCHEME = re.compile(r"([a-z]+)://")
SSH_ADDRESS = re.compile(r"[\w.-]+@[\w.-]+:[^:]+")
POLL_SECONDS = 0.2
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
LONGEST_ADDRESS = 4_096

SETTINGS = (
    "core.askPass=true",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "pack.threads=1",
    "submodule.recurse=false",
    "transfer.bundleURI=false",
)
KEPT_VARIABLES = ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSH", "GIT_SSH_COMMAND")

NO_SHALLOW = "does not support shallow"
"""Part of git's message for a server without shallow clones. All commits are then cloned."""
NO_SPACE = "No space left on device"
GONE_COMMIT = ("not our ref", "unadvertised object", "couldn't find remote ref")
FINAL = {
    "not found": ("not found", "does not exist", "does not appear to be a git repository", "error: 404", "error: 410"),
    "not found, or not public": ("Authentication failed", "could not read Username", "error: 401", "Permission denied"),
    "taken down": ("error: 451", "DMCA", "has been disabled"),
    "it is another user's": ("dubious ownership",),
    "no address that git takes": ("not allowed", "unable to find remote", "strange hostname", "URL rejected"),
}
"""Permanent reason why a repository cannot be cloned -> parts of git's messages that identify the reason."""


@dataclass(frozen=True)
class CloneLimits:
    timeout_seconds: float = 900
    max_bytes: int = 4 * 2**30
    """Maximum size of a clone of one commit on disk, in bytes."""
    max_listed_bytes: int = 64 * 2**30
    """Maximum size in bytes that a repository list may state. GitHub states the size with all commits."""
    attempts: int = 3
    pause_seconds: float = 5
    """Pause before the second attempt, in seconds. Each later pause is three times longer."""


class CloneError(Exception):
    def __init__(self, reason: str, is_final: bool = False):
        super().__init__(reason)
        self.is_final = is_final


@dataclass(frozen=True)
class Clone:
    address: str
    folder: Path
    limits: CloneLimits
    stopped: Event
    """Set this event to stop a clone that is no longer needed."""
    environment: dict[str, str]

    def clone_newest(self) -> None:
        """Clone the newest commit of the default branch; all commits if the server has no shallow clones."""
        command = ["clone", "--quiet", "--bare", "--no-tags", "--single-branch", "--template="]
        place = ["--", self.address, str(self.folder)]
        try:
            self.run_git(*command, "--depth=1", *place)
        except CloneError as error:
            if NO_SHALLOW not in str(error):
                raise
            remove_clone(self.folder)
            self.run_git(*command, *place)

    def clone_commit(self, name: str) -> None:
        object_format = "sha1" if len(name) == 40 else "sha256"
        self.run_git("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(self.folder))
        inside = ("-C", str(self.folder))
        self.run_git(*inside, "fetch", "--quiet", "--depth=1", "--no-tags", "--", self.address, name)
        self.run_git(*inside, "update-ref", "--no-deref", "HEAD", name)

    def run_git(self, *arguments: str) -> None:
        """Run git in a process session of its own; kill the whole session if a limit is exceeded."""
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        with TemporaryFile() as output:
            process = subprocess.Popen(
                [*GIT, *settings, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
            try:
                self.wait_within_limits(process)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if process.returncode != 0:
                output.seek(0)
                words = make_printable(output.read(2**16).replace(b"\n", b" "))
                raise make_clone_error(words, (f"'{self.address}/'", f"'{self.address}'", self.address, str(self.folder)))

    def wait_within_limits(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for git. Raise CloneError after the timeout, above the size limit, or when the clone is no longer needed."""
        end = time.monotonic() + self.limits.timeout_seconds
        while True:
            try:
                process.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if self.stopped.is_set():
                    raise CloneError("stopped", is_final=True) from None
                if time.monotonic() > end:
                    raise CloneError(f"timeout after {self.limits.timeout_seconds:g} seconds") from None
                check_size(self.folder, self.limits)
        check_size(self.folder, self.limits)


def clone(address: str, folder: Path, limits: CloneLimits, commit: str | None = None, stopped: Event | None = None) -> None:
    """Clone to a bare repository `folder` whose HEAD is `commit` (full hash), or the newest commit if `commit` does not exist.

    Raise CloneError, or DataError if the cause is this machine.
    """
    work = Clone(address, folder, limits, stopped or Event(), make_clone_environment(address))
    pause = limits.pause_seconds
    for attempt in range(1, limits.attempts + 1):
        remove_clone(folder)
        try:
            clone_once(work, commit)
            return
        except CloneError as error:
            remove_clone(folder)
            if error.is_final or attempt == limits.attempts:
                raise
        work.stopped.wait(pause)
        pause *= 3


def clone_once(work: Clone, commit: str | None) -> None:
    if commit is not None:
        try:
            work.clone_commit(commit)
            return
        except CloneError as error:
            if not any(words in str(error) for words in (*GONE_COMMIT, NO_SHALLOW)):
                raise
            remove_clone(work.folder)
    work.clone_newest()


def check_size(folder: Path, limits: CloneLimits) -> None:
    if measure_folder(folder) > limits.max_bytes:
        raise CloneError(f"larger than {limits.max_bytes:,} bytes", is_final=True)


def measure_folder(folder: Path) -> int:
    """Return the total size in bytes of the files in a folder. Another process may change the folder meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(f"{place}/{name}").st_size
            except OSError:
                continue
    return total


def make_clone_error(output: str, names: Sequence[str]) -> CloneError:
    """Return git's message as an error, without the `names` of this clone: repositories that fail alike get the same reason.

    Raise DataError if the cause is this machine.
    """
    if NO_SPACE in output:
        raise DataError(f"no space is left to clone into {Path(names[-1]).parent}. Free some, or set TMPDIR to a larger disk.")
    for reason, signs in FINAL.items():
        if any(sign in output for sign in signs) and not any(sign in output for sign in (*GONE_COMMIT, NO_SHALLOW)):
            return CloneError(reason, is_final=True)
    last = output.rpartition("fatal: ")[2].strip() or "git failed without a word"
    for name in names:
        last = last.replace(name, "it")
    return CloneError(last[:200])


def make_clone_environment(address: str) -> dict[str, str]:
    """Return git's environment for a clone. Raise CloneError for an address without a known protocol."""
    scheme = SCHEME.match(address)
    name = scheme[1] if scheme else "ssh" if SSH_ADDRESS.fullmatch(address) else ""
    if name not in PROTOCOLS or len(address) > LONGEST_ADDRESS or not address.isprintable():
        raise CloneError(f"its address begins with none of {', '.join(PROTOCOLS)}", is_final=True)
    kept = {variable: os.environ[variable] for variable in KEPT_VARIABLES if variable in os.environ}
    default = {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=30"}
    return make_git_environment() | default | kept | {"GIT_ALLOW_PROTOCOL": PROTOCOLS[name], "GIT_LFS_SKIP_SMUDGE": "1"}


def make_partial_folder(folder: Path) -> Path:
    """Return this process's temporary folder for the clone `folder`. Remove the temporary folders of killed processes."""
    start = f"{folder.name}.{socket.gethostname()}-"
    for entry in folder.parent.iterdir():
        left = re.fullmatch(rf"{re.escape(start)}(\d+)\.partial(\.removing)*", entry.name)
        if left and find_state(int(left[1])) in (None, "Z"):
            remove_clone(entry)
    return folder.with_name(f"{start}{os.getpid()}.partial")


def remove_clone(folder: Path) -> None:
    """Rename a folder, then remove it, so that after a kill a folder with the original name is still complete."""
    removing = folder.with_name(f"{folder.name}.removing")
    shutil.rmtree(removing, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rename(removing)
    shutil.rmtree(removing, ignore_errors=True)
