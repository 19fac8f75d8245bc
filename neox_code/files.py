"""Write files atomically (a file is complete or missing); also JSON Lines, numbered folders and locks.

Every result is first written to a temporary file in the same folder and then renamed, so that a reader, and the next run after a
`kill -9`, never finds half a file. `replace_durably` keeps this true after a power loss: the content is on the disk before the
rename, and the new name is on the disk before the function returns.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from neox_code.errors import DataError, LaunchError

PARTIAL_SUFFIX = ".partial"

MOST_BYTES = 100_000_000
"""Maximum bytes of a file that is read into memory at once: a vocabulary, a record, a configuration."""

WRITER_VARIABLE = "NEOX_CODE_WRITER"
"""Environment variable with a text that is unique to this process. It becomes part of temporary names, so that several machines can
write the same file."""


def partial_path(path: Path) -> Path:
    """Return the temporary path at which `path` is written before it is renamed.

    >>> str(partial_path(Path("out/data.bin")))
    'out/data.bin.partial'
    """
    return path.with_name(path.name + os.environ.get(WRITER_VARIABLE, "") + PARTIAL_SUFFIX)


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not Path(path).is_dir() or error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise  # some network file systems write the names of a folder at once, and refuse to be asked
    finally:
        os.close(descriptor)


def sync_tree(folder: str | os.PathLike[str]) -> None:
    """Wait until everything in a folder is on the disk."""
    for entry in sorted(Path(folder).rglob("*")):
        if entry.is_dir() or entry.is_file():
            sync(entry)
    sync(folder)


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename a finished file or folder to `path`. Its content is on the disk before the rename, and its new name afterwards."""
    sync_tree(temporary) if temporary.is_dir() else sync(temporary)
    temporary.replace(path)
    sync(path.parent)


@contextmanager
def atomic_file(path: str | os.PathLike[str], mode: str = "w", **open_arguments: Any) -> Iterator[IO[Any]]:
    """Open a temporary file. It is renamed to `path` at the end of the block, and deleted if the block raises.

    A device or pipe (/dev/null, /dev/stdout) is opened directly, because a file must not replace it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if "b" not in mode:
        open_arguments = {"encoding": "utf-8", "newline": ""} | open_arguments
    if path.exists() and not path.is_file():
        with path.open(mode, **open_arguments) as file:
            yield file
        return
    try:
        with temporary.open(mode, **open_arguments) as file:
            yield file
        replace_durably(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic_file(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_bounded(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES, remedy: str = "Check the path.") -> bytes:
    """Return the content of a file. Raise DataError if it cannot be read, is no regular file, or has more than `most_bytes`."""
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError(f"{path} is a folder. Name a file in it.")
        if not stat.S_ISREG(mode):  # opening a pipe waits for its writer, and a device has no end
            raise DataError(f"{path} is a pipe or a device, and not a file. {remedy}")
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            limit = min(most_bytes, max(size, 2**20))  # the size of files in /proc is 0
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. {remedy}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}. {remedy}") from None
    if len(content) > limit:
        raise DataError(f"{path} has {max(size, len(content)):,} bytes, and at most {limit:,} are read. {remedy}")
    return content


def read_json(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> Any:
    """Return the value in a JSON file. Raise DataError if the file cannot be read or is too large, and for a syntax error."""
    try:
        return json.loads(read_bounded(path, most_bytes).decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}. Check the path, or write it again.") from None


def append_json_line(path: str | os.PathLike[str], row: Mapping[str, Any]) -> None:
    """Append one row in one write, so that a reader finds only whole lines. On a full disk append nothing and raise OSError."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    with Path(path).open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with atomic_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON Lines file. An incomplete last line is skipped; raise DataError for any other invalid line."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    return
                raise DataError(f"{path}:{number} is not valid JSON: {error}. Correct or remove the line.") from None


def find_numbered_folders(parent: str | os.PathLike[str], prefix: str) -> dict[int, Path]:
    """Return number -> folder, ascending, for the folders PREFIX0, PREFIX1, ... in `parent`. Partial folders are omitted."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)")
    parent = Path(parent)
    if not parent.is_dir():
        return {}
    found = {int(match[1]): entry for entry in parent.iterdir() if (match := pattern.fullmatch(entry.name)) and entry.is_dir()}
    return dict(sorted(found.items()))


HELD_LOCKS: set[IO[Any]] = set()
"""Open lock files whose locks this process holds."""


def close_inherited_locks() -> None:
    """Close the lock files in a forked child. Otherwise the child would hold the locks after its parent was killed."""
    while HELD_LOCKS:
        HELD_LOCKS.pop().close()


os.register_at_fork(after_in_child=close_inherited_locks)


@contextmanager
def folder_lock(
    folder: str | os.PathLike[str], name: str = ".lock", on_no_locks: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Lock `folder` for this process with flock on its file `name`. The kernel releases the lock when the process ends in any way.

    Raise LaunchError with the other process and its host if another run holds the lock. On a file system without locks call
    `on_no_locks` with the system's reason and continue without a lock; without `on_no_locks` raise LaunchError.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a+", encoding="utf-8") as file:
        file.seek(0)
        owner = file.read().strip()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(
                f"{folder} is in use by process {owner or '(unknown)'}. Wait for it, end it, or choose another folder."
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            if on_no_locks is None:
                raise LaunchError(
                    f"{folder} lies on a file system without locks ({error.strerror}). "
                    "Mount it with locks (NFS: without nolock), or choose another folder."
                ) from None
            on_no_locks(str(error.strerror))
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        HELD_LOCKS.add(file)
        try:
            yield
        finally:
            HELD_LOCKS.discard(file)
            file.truncate(0)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
