"""Git repositories, bare or with a work tree. The files of the commit at HEAD are read from the object database.

    source = GitSource(Project("torvalds/linux"), Path("linux.git"))

Only two git commands use the repository's configuration: they find the object folder and the commit at HEAD, and run no other
program. Trees and files are read with an empty configuration, so the repository's hooks, filters, aliases, attributes,
replacements, monitors, transports and lazy fetches have no effect. Links and submodules are listed but not read.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from neox_code.corpus.sources.batches import (
    LINK,
    NOT_A_FILE,
    UNREADABLE,
    ListedBatch,
    ListOfFiles,
    has_readable_content,
    make_batches,
    read_listed_files,
)
from neox_code.corpus.sources.protocol import FileCheck, FoundFile, Project
from neox_code.corpus.sources.source_names import make_printable
from neox_code.errors import DataError

MISSING = "BAD"
MODES = {"100644": None, "100755": None, "100664": None, "120000": LINK}
CHUNK = 2**16
LARGEST_SIZE = 2**62
LARGEST_LISTING = 2**29
"""Maximum size of a commit's list of files, in bytes (about five million files). A hostile commit can list any number of files."""
TOO_MANY_FILES = f"git repository lists its files in more than {LARGEST_LISTING:,} bytes: the rest is not read"
DAMAGED_TREE = "git repository is damaged: a folder of its HEAD cannot be read"


class UnreadableRepository(Exception):
    """A repository that git cannot read, with git's message."""


@dataclass(frozen=True)
class Objects:
    """The object folder of a repository and its hash algorithm."""

    folder: str
    object_format: str
    """`sha1` or `sha256`."""


@dataclass(frozen=True)
class GitSource:
    project: Project
    path: Path

    def batches(self, check: FileCheck) -> Iterator[ListOfFiles]:
        try:
            objects, commit = find_head(self.path)
        except UnreadableRepository as error:
            yield ListedBatch((FoundFile(self.project, "", 0, f"git repository cannot be read: {error}"),))
            return
        project = replace(self.project, commit=commit)
        yield from make_batches(list_tree(objects, commit, project, check), lambda files, work: GitBatch(objects, files, work))


def find_head(repository: Path) -> tuple[Objects, str]:
    """Return the object folder of a repository, and the hash of the commit at HEAD."""
    object_format, folder = (
        run_git(repository, "rev-parse", "--show-object-format", "--git-path", "objects").strip("\n").split("\n")
    )
    commit = run_git(repository, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    return Objects(str((repository / folder).resolve()), object_format), commit


def list_tree(objects: Objects, commit: str, project: Project, check: FileCheck) -> Iterator[tuple[FoundFile, str]]:
    """Yield every file of a commit with its object hash. If the commit is damaged or too large, the last file has an empty path."""
    command = ("ls-tree", "-r", "-z", "-l", "--full-tree", commit)
    with make_isolated_git_environment(objects) as environment, start_git(command, environment) as (process, output):
        listed = 0
        for line in split_at_nul(output):
            listed += len(line)
            if listed > LARGEST_LISTING:
                yield FoundFile(project, "", 0, TOO_MANY_FILES), ""
                return
            meta, _, name = line.partition(b"\t")
            mode, _, object_name, size = meta.decode().split()
            num_bytes = min(int(size), LARGEST_SIZE) if size.isdecimal() else 0
            path = make_printable(name)
            reason = MODES.get(mode, NOT_A_FILE) or (UNREADABLE if size == MISSING else check(project, path, num_bytes))
            yield FoundFile(project, path, num_bytes, reason), object_name
    if process.returncode != 0:
        yield FoundFile(project, "", 0, DAMAGED_TREE), ""


def split_at_nul(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(CHUNK):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole


@dataclass(frozen=True)
class GitBatch:
    objects: Objects
    files: tuple[tuple[FoundFile, str], ...]
    num_bytes: int

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        wanted = [object_name for file, object_name in self.files if has_readable_content(file)]
        contents = read_blobs(self.objects, wanted)
        return read_listed_files(self.files, lambda file, _: next(contents))


def read_blobs(objects: Objects, object_names: Sequence[str]) -> Iterator[bytes | None]:
    """Yield the blobs in order; None for a missing or damaged blob. Git exits at a damaged blob and is restarted after it."""
    remaining = object_names
    while remaining:
        count = 0
        for content in read_until_damaged(objects, remaining):
            count += 1
            yield content
        if count < len(remaining):
            yield None
        remaining = remaining[count + 1 :]


def read_until_damaged(objects: Objects, object_names: Sequence[str]) -> Iterator[bytes | None]:
    """Yield the blobs in order up to the first damaged blob; None for a missing blob."""
    with make_isolated_git_environment(objects) as environment, tempfile.TemporaryFile() as requests:
        requests.write("".join(f"{name}\n" for name in object_names).encode())
        requests.seek(0)
        with start_git(("cat-file", "--batch", "--buffer"), environment, requests) as (_, output):
            for _ in object_names:
                header = output.readline().split()
                if header[-1:] == [b"missing"]:
                    yield None
                    continue
                if len(header) != 3:
                    return
                content = output.read(int(header[2]))
                if len(content) != int(header[2]) or output.read(1) != b"\n":
                    return
                yield content


@contextmanager
def make_isolated_git_environment(objects: Objects) -> Iterator[dict[str, str]]:
    """Yield environment variables with which git reads only these objects, and no configuration of the repository."""
    with tempfile.TemporaryDirectory(prefix="neox-git-") as folder:
        (Path(folder) / "refs").mkdir()
        (Path(folder) / "HEAD").write_text("ref: refs/heads/none\n")
        version = "0" if objects.object_format == "sha1" else f"1\n[extensions]\n\tobjectFormat = {objects.object_format}"
        (Path(folder) / "config").write_text(f"[core]\n\tbare = true\n\trepositoryFormatVersion = {version}\n")
        yield make_git_environment() | {"GIT_DIR": folder, "GIT_OBJECT_DIRECTORY": objects.folder}


@contextmanager
def start_git(
    arguments: Iterable[str], environment: dict[str, str], requests: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Yield a git process and its output; git ends when the block ends."""
    command = [*GIT, *arguments]
    with subprocess.Popen(
        command, stdin=requests, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, bufsize=2**18
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout


def run_git(repository: Path, *arguments: str) -> str:
    """Return the output of a git command that only reads. Raise UnreadableRepository if it fails."""
    environment = make_git_environment() | {"GIT_CEILING_DIRECTORIES": str(repository.resolve().parent)}
    try:
        done = subprocess.run([*GIT, "-C", repository, *arguments], capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        raise DataError(f"source {repository} is a git repository, and git is not installed. Install git.") from None
    if done.returncode != 0:
        output = make_printable(done.stderr.strip()).replace(str(repository), "it") or "it has no commit at HEAD"
        raise UnreadableRepository(output.removeprefix("fatal: "))
    return os.fsdecode(done.stdout)


SETTINGS = ("safe.directory=*", "core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false")
GIT = ["git", *(word for setting in SETTINGS for word in ("-c", setting)), "--no-replace-objects"]


def make_git_environment() -> dict[str, str]:
    """Return the environment without git's variables, the user's configuration and lazy fetches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
