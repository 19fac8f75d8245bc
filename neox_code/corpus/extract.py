"""Sources of files, each read once and nothing unpacked to disk: folders, git repositories, tar and zip archives.

    for source in find_sources(["local", "~/projects", "linux.tar.xz"]):
        for batch in source.batches(judge):                  # picklable pieces of work, for a process each
            for file in batch.read():
                print(file.project, file.path, file.num_bytes, file.content)

`judge(path, num_bytes)` says by name and size why a file is not wanted (None: it is); such files are listed and not read.
A project is a first-level folder (or top-level file) of a folder, and the whole of a git repository or archive.

Sources may be hostile: links are not followed, names out of an archive are only ever names, a file is read up to the size
that was judged, nothing of a git repository is run. What cannot be read is listed under a reason; an archive that breaks off
is a DataError, since nobody knows what else it held.
"""

import os
import stat
import struct
import subprocess
import sysconfig
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import Any, Protocol, TypeVar

from neox_code.errors import DataError

LOCAL = "local"
LOCAL_LANGUAGES = frozenset({"C", "C++", "JavaScript", "Python"})
BATCH_BYTES = 8 * 2**20
BATCH_FILES = 4096
LARGEST_TAR_HEADER = 2**20

FOLDER = "folder"
LINK = "link"
NOT_A_FILE = "not a regular file"
UNREADABLE = "unreadable"
GIT_FOLDER = "git's own folder"

Judge = Callable[[str, int], str | None]

Place = TypeVar("Place")


@dataclass(slots=True)
class FoundFile:
    """A file of a source, with its content where `judge` wanted it."""

    project: str
    path: str
    """Below the project; printable in any case."""
    num_bytes: int
    reason: str | None = None
    """Why it has no content, if it has none."""
    content: bytes | None = None


class Batch(Protocol):
    """A part of a source that one process reads."""

    @property
    def num_bytes(self) -> int:
        """The amount of work in it, which `progress` reaches at the end."""
        ...

    @property
    def commit(self) -> str | None: ...

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        """Yields each file, and how far the work has come, in units of `num_bytes`."""
        ...


class Source(Protocol):
    @property
    def languages(self) -> frozenset[str] | None:
        """The languages taken from it; None for all."""
        ...

    def batches(self, judge: Judge) -> Iterator[Batch]: ...


UNREADABLE_ARCHIVE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,  # bad numbers, and names that are not the encoding they claim
    RuntimeError,  # encrypted members, and features that the reader lacks (NotImplementedError)
)
"""What the readers of archives raise for damaged and hostile ones."""


def find_sources(arguments: Sequence[str | Path]) -> list[Source]:
    """Opens what the user named: `local` (this machine's Python library and packages), folders, git repositories, archives.

    Raises DataError where there is no such thing.
    """
    names: set[str] = set()
    sources: list[Source] = []
    for argument in arguments:
        if argument == LOCAL:
            sources += local_sources(names)
        else:
            sources.append(open_source(home_expanded(argument), names))
    return sources


def home_expanded(argument: str | Path) -> Path:
    try:
        return Path(argument).expanduser()
    except RuntimeError:
        raise DataError(f"source {argument}: there is no such user. Write the path out.") from None


def local_sources(names: set[str]) -> list[Source]:
    """The standard library, and the installed packages of the running interpreter."""
    library = Path(sysconfig.get_path("stdlib")).resolve()
    packages = dict.fromkeys(Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib"))
    folders = [library, *(folder for folder in packages if folder.is_dir())]
    excluded = frozenset({"site-packages", "dist-packages"})
    return [
        FolderSource(unique(folder.name, names), folder, LOCAL_LANGUAGES, excluded if folder == library else frozenset())
        for folder in folders
    ]


def open_source(path: Path, names: set[str]) -> Source:
    if not path.exists():
        raise DataError(f"source {path} does not exist. Name a folder, a git repository, a tar or zip archive, or {LOCAL!r}.")
    name = path.resolve().name or "root"
    if path.is_dir():
        if is_git_repository(path):
            return GitSource(unique(name.removesuffix(".git"), names), path)
        return FolderSource(unique(name, names), path.resolve())
    try:
        if is_tar(path):
            return TarSource(unique(archive_stem(name), names), path)
        if zipfile.is_zipfile(path):
            return ZipSource(unique(archive_stem(name), names), path)
    except OSError as error:
        raise DataError(f"source {path} cannot be read: {error.strerror}. Check its permissions.") from None
    raise DataError(f"source {path} is neither a folder nor a whole tar or zip archive. Check the file, or get it again.")


def is_tar(path: Path) -> bool:
    """Whether it begins as a tar archive; a compressed one that breaks off or is damaged at once does not."""
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, zlib.error, LZMAError):
        return False


def unique(name: str, taken: set[str]) -> str:
    """The name itself, or with the first free number where another source has it."""
    name = printable(name)
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free


def archive_stem(name: str) -> str:
    """A file name without its archive suffixes.

    >>> archive_stem("linux-6.1.tar.xz"), archive_stem("src.zip"), archive_stem("code.tgz")
    ('linux-6.1', 'src', 'code')
    """
    for suffix in (".gz", ".bz2", ".xz", ".tar", ".tgz", ".tbz2", ".txz", ".zip"):
        name = name.removesuffix(suffix) or name
    return name


def printable(name: str | bytes) -> str:
    """A name from a file system or archive as text that can be stored: bytes that are not UTF-8 become backslash escapes."""
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


def member_path(name: str) -> str:
    """The path of an archive's member, without a root and without `.` and `..`.

    >>> member_path("/etc/../etc/./passwd.py")
    'etc/etc/passwd.py'
    """
    return "/".join(part for part in printable(name).split("/") if part not in ("", ".", ".."))


# Folders


@dataclass(frozen=True)
class FolderSource:
    name: str
    root: Path
    languages: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    """First-level folders that do not belong to it."""

    def batches(self, judge: Judge) -> Iterator[Batch]:
        return in_batches(self._list(judge), lambda files, work: FolderBatch(files, work))

    def _list(self, judge: Judge) -> Iterator[tuple[FoundFile, str]]:
        """Every file below the root with the path that opens it, depth first in the order of names."""
        stack = [("", str(self.root))]
        while stack:
            relative, place = stack.pop()
            try:
                with os.scandir(place) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
            except OSError as error:
                if not relative:
                    raise DataError(f"source {place} cannot be listed: {error.strerror}. Check its permissions.") from None
                yield self._found(relative, 0, judge, UNREADABLE), place
                continue
            folders = []
            for entry in entries:
                path = f"{relative}/{entry.name}" if relative else entry.name
                kind, size = kind_and_size(entry)
                if kind != FOLDER:
                    yield self._found(path, size, judge, kind), entry.path
                elif path not in self.excluded:
                    folders.append((path, entry.path))
            stack += reversed(folders)

    def _found(self, relative: str, num_bytes: int, judge: Judge, reason: str | None) -> FoundFile:
        path = printable(relative)
        first, _, rest = path.partition("/")
        project = f"{self.name}/{first if rest else Path(first).stem}"
        return FoundFile(project, rest or first, num_bytes, reason or judge(path, num_bytes))


def kind_and_size(entry: "os.DirEntry[str]") -> tuple[str | None, int]:
    """What a folder's entry is (None: a regular file, FOLDER, or the reason why it is not read), and a file's size."""
    try:
        if entry.is_symlink():
            return LINK, 0
        if entry.is_dir(follow_symlinks=False):
            return (GIT_FOLDER if entry.name == ".git" else FOLDER), 0
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return UNREADABLE, 0
    return (None, status.st_size) if stat.S_ISREG(status.st_mode) else (NOT_A_FILE, 0)


@dataclass(frozen=True)
class FolderBatch:
    files: tuple[tuple[FoundFile, str], ...]
    num_bytes: int
    commit: str | None = None

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        done = 0
        for file, place in self.files:
            if file.reason is None:
                done += file.num_bytes
                file.content = read_regular_file(place, file.num_bytes)
                if file.content is None:
                    file.reason = UNREADABLE
            yield file, done


def read_regular_file(path: str, num_bytes: int) -> bytes | None:
    """The content of a file that was `num_bytes` long when it was listed; None if it is no such file (any more)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            content = file.read(num_bytes + 1)
    except OSError:
        return None
    return content if len(content) == num_bytes else None


def in_batches(
    files: Iterable[tuple[FoundFile, Place]], build: Callable[[tuple[tuple[FoundFile, Place], ...], int], Batch]
) -> Iterator[Batch]:
    """Groups listed files, each with the place of its content, into batches of about BATCH_BYTES to be read."""
    group: list[tuple[FoundFile, Place]] = []
    work = 0
    for item in files:
        group.append(item)
        work += item[0].num_bytes if item[0].reason is None else 0
        if work >= BATCH_BYTES or len(group) >= BATCH_FILES:
            yield build(tuple(group), work)
            group, work = [], 0
    if group:
        yield build(tuple(group), work)


# Git repositories


@dataclass(frozen=True)
class GitSource:
    """The tree of HEAD, from the object database: no work tree is read, no hook, filter or transport runs."""

    name: str
    path: Path
    languages: frozenset[str] | None = None

    def batches(self, judge: Judge) -> Iterator[Batch]:
        commit = run_git(self.path, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
        return in_batches(self._list(commit, judge), lambda files, work: GitBatch(self.path, files, work, commit))

    def _list(self, commit: str, judge: Judge) -> Iterator[tuple[FoundFile, str]]:
        """Every file of the commit with its object name."""
        for line in run_git(self.path, "ls-tree", "-r", "-z", "-l", "--full-tree", commit).split(b"\0")[:-1]:
            meta, _, name = line.partition(b"\t")
            mode, _, object_name, size = meta.decode().split()
            num_bytes = int(size) if size.isdecimal() else 0
            path = printable(name)
            reason = GIT_MODES.get(mode, NOT_A_FILE) or (UNREADABLE if size == GIT_MISSING else judge(path, num_bytes))
            yield FoundFile(self.name, path, num_bytes, reason), object_name


GIT_MISSING = "BAD"
GIT_MODES = {"100644": None, "100755": None, "100664": None, "120000": LINK}


@dataclass(frozen=True)
class GitBatch:
    repository: Path
    files: tuple[tuple[FoundFile, str], ...]
    num_bytes: int
    commit: str

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        wanted = [object_name for file, object_name in self.files if file.reason is None]
        contents = read_blobs(self.repository, wanted) if wanted else iter(())
        done = 0
        for file, _ in self.files:
            if file.reason is None:
                done += file.num_bytes
                file.content = next(contents)
                if file.content is None:
                    file.reason = UNREADABLE
            yield file, done


def read_blobs(repository: Path, object_names: Sequence[str]) -> Iterator[bytes | None]:
    """The blobs in order; None for one that the repository lacks (a partial clone)."""
    with tempfile.TemporaryFile() as requests:
        requests.write("".join(f"{name}\n" for name in object_names).encode())
        requests.seek(0)
        process = subprocess.Popen(
            git_command(repository, "cat-file", "--batch"),
            stdin=requests,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=git_environment(repository),
        )
        with process, process.stdout as output:
            for _ in object_names:
                header = output.readline().split()
                if header[-1:] == [b"missing"]:
                    yield None
                    continue
                content = output.read(int(header[2]) + 1)[:-1] if len(header) == 3 else b""
                if len(header) != 3 or len(content) != int(header[2]):
                    raise DataError(f"git repository {repository} is damaged: a file of its HEAD cannot be read. Clone it again.")
                yield content


def is_git_repository(path: Path) -> bool:
    """Whether a folder is the top of a work tree or a bare repository."""
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir())


def run_git(repository: Path, *arguments: str) -> bytes:
    """The output of a git command that only reads. Raises DataError where git or the repository fails."""
    try:
        done = subprocess.run(
            git_command(repository, *arguments), capture_output=True, check=False, env=git_environment(repository)
        )
    except FileNotFoundError:
        raise DataError(f"source {repository} is a git repository, and git is not installed. Install git.") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip() or "it has no commit at HEAD"
        raise DataError(f"git repository {repository} cannot be read: {said}. Check it with `git fsck`, or clone it again.")
    return done.stdout


def git_command(repository: Path, *arguments: str) -> list[str]:
    settings = ("safe.directory=*", "core.hooksPath=/dev/null", "core.fsmonitor=false", "protocol.allow=never")
    options = [word for setting in settings for word in ("-c", setting)]
    return ["git", "-C", str(repository), *options, "--no-replace-objects", *arguments]


def git_environment(repository: Path) -> dict[str, str]:
    """The environment without what would point git elsewhere (a repository around a broken one, too), and without fetching."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CEILING_DIRECTORIES": str(repository.resolve().parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


# Archives


@dataclass(frozen=True)
class TarSource:
    """A tar archive, plain or compressed with gzip, bzip2 or xz."""

    name: str
    path: Path
    languages: frozenset[str] | None = None

    def batches(self, judge: Judge) -> Iterator[Batch]:
        yield TarBatch(self.name, self.path, judge, self.path.stat().st_size)


@dataclass(frozen=True)
class TarBatch:
    """A whole archive, read from its first byte to its last."""

    project: str
    archive: Path
    judge: Judge
    num_bytes: int
    commit: str | None = None

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        members = 0
        try:
            with self.archive.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=StrictTarInfo) as archive:
                for member in archive:
                    members += 1
                    archive.members.clear()  # tarfile would keep them all in memory
                    if not member.isdir():
                        yield self._found(archive, member), stream.tell()
        except (*UNREADABLE_ARCHIVE, BrokenArchive) as error:
            raise DataError(f"archive {self.archive} is damaged after {members:,} members: {error}. Get it again.") from None

    def _found(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> FoundFile:
        path = member_path(member.name)
        reason = None if member.isreg() else LINK if member.issym() or member.islnk() else NOT_A_FILE
        num_bytes = member.size if member.isreg() else 0
        file = FoundFile(self.project, path, num_bytes, reason or self.judge(path, num_bytes))
        if file.reason is None:
            file.content = archive.extractfile(member).read(num_bytes)
        return file


class BrokenArchive(Exception):
    """A tar archive whose header is damaged or missing."""


class StrictTarInfo(tarfile.TarInfo):
    """A header whose damage is an error (tarfile takes it for the archive's end), and whose extensions stay small."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "StrictTarInfo":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.EmptyHeaderError:
            raise BrokenArchive("it ends without its end mark") from None
        except tarfile.HeaderError as error:
            raise BrokenArchive(str(error)) from None

    def _proc_member(self, *arguments: Any, **keywords: Any) -> "StrictTarInfo":
        if self.type in EXTENSION_HEADERS and self.size > LARGEST_TAR_HEADER:
            raise BrokenArchive(f"an extended header of {self.size:,} bytes, expected at most {LARGEST_TAR_HEADER:,}")
        return super()._proc_member(*arguments, **keywords)


EXTENSION_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True)
class ZipSource:
    name: str
    path: Path
    languages: frozenset[str] | None = None

    def batches(self, judge: Judge) -> Iterator[Batch]:
        return in_batches(self._list(judge), lambda files, work: ZipBatch(self.path, files, work))

    def _list(self, judge: Judge) -> Iterator[tuple[FoundFile, zipfile.ZipInfo]]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except UNREADABLE_ARCHIVE as error:
            raise DataError(f"archive {self.path} is damaged: {error}. Get it again.") from None
        for member in members:
            if not member.is_dir():
                path = member_path(member.filename)
                reason = zip_reason(member) or judge(path, member.file_size)
                yield FoundFile(self.name, path, member.file_size, reason), member


def zip_reason(member: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return LINK
    return None if kind in (0, stat.S_IFREG) else NOT_A_FILE


@dataclass(frozen=True)
class ZipBatch:
    archive: Path
    files: tuple[tuple[FoundFile, zipfile.ZipInfo], ...]
    num_bytes: int
    commit: str | None = None

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        done = 0
        with zipfile.ZipFile(self.archive) as archive:
            for file, member in self.files:
                if file.reason is None:
                    done += file.num_bytes
                    file.content = read_zip_member(archive, member)
                    if file.content is None:
                        file.reason = UNREADABLE
                yield file, done


def read_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | None:
    """The content of a member; None if it is encrypted, damaged, or not of the size that it claims."""
    try:
        with archive.open(member) as file:
            content = file.read(member.file_size)
    except UNREADABLE_ARCHIVE:
        return None
    return content if len(content) == member.file_size else None
