"""Read the changes of files in the commits of a git repository, bare or with a work tree, by dulwich.

    for change in read_changes(Path("linux.git"), wants=lambda path: None, limits=HistoryLimits()):
        change                      # a FileChange, or the reason why a commit or a file is left out

Only the object folder is read: no configuration, hook, filter or reference of the repository has an effect, and no git command but
the two that find the commit at HEAD. A hostile repository is bounded: number of commits, of changed files, and size of objects;
damaged and missing objects are reasons.
"""

import contextlib
import heapq
import itertools
import resource
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neox_code.corpus.sources.git import UnreadableRepository, find_head
from neox_code.corpus.sources.source_names import make_printable
from neox_code.errors import ConfigError

try:
    from dulwich.diff_tree import CHANGE_MODIFY, tree_changes
    from dulwich.object_format import get_object_format
    from dulwich.object_store import DiskObjectStore
    from dulwich.objects import Commit
except ModuleNotFoundError:
    has_dulwich = False
else:
    has_dulwich = True

FIRST = "commit without a parent"
MERGE = "merge"
MANY_FILES = "commit changes too many files"
UNREADABLE = "commit cannot be read"
UNREADABLE_FILE = "file cannot be read"
TOO_LARGE = "file too large"
ADDED = "file added, deleted or moved"
NOT_A_FILE = "link or submodule"
REST = "older commit, beyond --max-commits"

MEMORY_BYTES = 2**31
"""Address space that reading a repository may need, besides that of the process. A small pack can hold an object of any size."""


@dataclass(frozen=True)
class HistoryLimits:
    commits: int = 20_000
    """Number of commits that are read of a repository, the newest first."""
    files: int = 20
    """Number of files that a commit may change. Larger commits are mostly moves, new formats and generated files."""
    file_bytes: int = 2**18
    deepest_tree: int = 64


@dataclass(frozen=True)
class FileChange:
    path: str
    """Path with unprintable characters escaped."""
    before: bytes
    after: bytes
    commit: str


def read_changes(repository: Path, wants: Callable[[str], str | None], limits: HistoryLimits) -> Iterator[FileChange | str]:
    """Yield each changed file of the commits before HEAD, or the reason why a commit or file is left out.

    `wants` returns the reason why a path is left out, or None. Raise UnreadableRepository if HEAD cannot be read.
    """
    if not has_dulwich:
        raise ConfigError("dulwich, which reads the history of repositories, is not installed. Run: pip install 'neox-code[edits]'")
    objects, head = find_head(repository)
    if (Path(objects.folder) / "info" / "alternates").exists():
        raise UnreadableRepository("it uses the objects of another repository. Copy it with `git clone --bare`")
    store = DiskObjectStore(
        objects.folder,
        object_format=get_object_format(objects.object_format),
        loose_object_size_limit=4 * limits.file_bytes,
        max_tree_depth=limits.deepest_tree,
    )
    with limit_memory(), contextlib.closing(store):
        for commit, name in walk_commits(store, head.encode(), limits.commits):
            if commit is None:
                yield name
            elif len(commit.parents) != 1:
                yield MERGE if commit.parents else FIRST
            else:
                yield from read_commit(store, commit, name, wants, limits)


@contextlib.contextmanager
def limit_memory() -> Iterator[None]:
    """Within the block, limit the address space to its present size and MEMORY_BYTES: a larger object raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def walk_commits(store: Any, head: bytes, most: int) -> Iterator[tuple[Any, str]]:
    """Yield commits with their hashes, the newest first, each once; (None, reason) for those that are left out."""
    found = read_object(store, head)
    queue = [(-found.commit_time, head, found)] if isinstance(found, Commit) else []
    if not queue:
        yield None, UNREADABLE
    known = {head}
    for _ in range(most):
        if not queue:
            return
        _, name, commit = heapq.heappop(queue)
        yield commit, name.decode()
        for parent in commit.parents:
            if parent in known:
                continue
            known.add(parent)
            found = read_object(store, parent)
            if isinstance(found, Commit):
                heapq.heappush(queue, (-found.commit_time, parent, found))
            else:
                yield None, UNREADABLE
    for _ in queue:
        yield None, REST


def read_object(store: Any, name: bytes) -> Any:
    """Return an object; None if it is missing, damaged or too large."""
    try:
        return store[name]
    except Exception:  # dulwich raises errors of many kinds for damaged objects, such as IndexError and zlib.error
        return None


def read_commit(
    store: Any, commit: Any, name: str, wants: Callable[[str], str | None], limits: HistoryLimits
) -> Iterator[FileChange | str]:
    """Yield the changed files of a commit with one parent."""
    parent = read_object(store, commit.parents[0])
    try:
        changes = list(itertools.islice(tree_changes(store, parent.tree, commit.tree), limits.files + 1))
    except Exception:  # as in read_object
        yield UNREADABLE
        return
    if len(changes) > limits.files:
        yield MANY_FILES
        return
    for change in changes:
        if change.type != CHANGE_MODIFY:
            yield ADDED
        elif any(side is None or stat.S_IFMT(side.mode) != stat.S_IFREG for side in (change.old, change.new)):
            yield NOT_A_FILE
        elif reason := wants(path := make_printable(change.new.path if change.new else b"")):
            yield reason
        else:
            yield read_change(store, change, path, name, limits.file_bytes)


def read_change(store: Any, change: Any, path: str, commit: str, most: int) -> FileChange | str:
    before, after = (read_object(store, side.sha) for side in (change.old, change.new))
    if before is None or after is None:
        return UNREADABLE_FILE
    if max(before.raw_length(), after.raw_length()) > most:
        return TOO_LARGE
    return FileChange(path, before.as_raw_string(), after.as_raw_string(), commit)
