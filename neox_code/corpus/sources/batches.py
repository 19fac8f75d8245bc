"""Batches of listed files, and the drop reasons that all sources share.

    yield from make_batches(listed, FolderBatch)              # (FoundFile, place of its content) -> batches of about 8 MiB
    yield from merge_small_batches(batches)

A batch has at most BATCH_FILES files (unread files included), which bounds its memory for very small files.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import xxhash

from neox_code.corpus.licenses.folder_licenses import states_license
from neox_code.corpus.sources.protocol import Batch, FoundFile
from neox_code.corpus.sources.source_names import LONGEST_NAME, make_printable

BATCH_BYTES = 8 * 2**20
BATCH_FILES = 4096

LINK = "link"
NOT_A_FILE = "not a regular file"
UNREADABLE = "unreadable"
ENCRYPTED = "encrypted"
REPLACED = "replaced by a later member of its path"
LFS_POINTER = "Git LFS pointer"

LFS_START = b"version https://git-lfs.github.com/spec/"
LFS_LARGEST = 1024

Place = TypeVar("Place")


class ListOfFiles(Batch, Protocol):
    """A batch whose files are listed before it is read."""

    @property
    def files(self) -> Sequence[Any]: ...


def has_readable_content(file: FoundFile) -> bool:
    """Return True if the content of a file is read. Of links, only those that state a license are read."""
    return file.reason is None or (file.reason == LINK and states_license(file.path) and file.num_bytes <= LONGEST_NAME)


def set_content(file: FoundFile, content: bytes | None) -> None:
    """Set the content of a file, the target of a link, or the reason why the file was not read."""
    if file.reason == LINK:
        file.link = make_printable(content or b"")
    elif content is None:
        file.reason = UNREADABLE
    elif len(content) <= LFS_LARGEST and content.startswith(LFS_START):
        file.reason = LFS_POINTER
    else:
        file.content = content


def read_listed_files(
    files: Iterable[tuple[FoundFile, Place]], read: Callable[[FoundFile, Place], bytes | None]
) -> Iterator[tuple[FoundFile, int]]:
    """Yield the files of a batch with their contents, which `read` returns, and the bytes done."""
    done = 0
    for file, place in files:
        if has_readable_content(file) and file.link is None:
            done += file.num_bytes if file.reason is None else 0
            set_content(file, read(file, place))
        yield file, done


def find_replaced_members(paths: Callable[[], Iterable[str]]) -> set[int]:
    """Return the numbers of the archive members whose path occurs again in a later member.

    `paths` yields the paths of all members, empty for a member that is no file; it is called a second time if a path is repeated.
    A member takes 8 bytes of memory.
    """
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(path.encode()) if path else 0 for path in paths()), np.uint64)
    values, counts = np.unique(hashes[hashes != 0], return_counts=True)
    repeated = set(values[counts > 1].tolist())
    if not repeated:
        return set()
    last: dict[str, int] = {}
    replaced: set[int] = set()
    for number, (path, code) in enumerate(zip(paths(), hashes.tolist(), strict=False)):
        if code in repeated:
            if path in last:
                replaced.add(last[path])
            last[path] = number
    return replaced


def is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(LFS_START)) == LFS_START


def make_batches(
    files: Iterable[tuple[FoundFile, Place]], build: Callable[[tuple[tuple[FoundFile, Place], ...], int], ListOfFiles]
) -> Iterator[ListOfFiles]:
    """Yield batches of about BATCH_BYTES from listed files, each with the place of its content."""
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


@dataclass(frozen=True)
class ListedBatch:
    """Files that are not read, with their reasons. A damaged archive or repository is listed as one file with an empty path."""

    files: tuple[FoundFile, ...]
    num_bytes: int = 0

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        for file in self.files:
            yield file, 0


@dataclass(frozen=True)
class BatchGroup:
    """Batches that one process reads in sequence."""

    members: tuple[Batch, ...]
    num_bytes: int

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        before = 0
        for member in self.members:
            for file, done in member.read():
                yield file, before + done
            before += member.num_bytes


def merge_small_batches(batches: Iterable[ListOfFiles]) -> Iterator[Batch]:
    """Yield the batches in order; consecutive small ones are merged up to about BATCH_BYTES or BATCH_FILES."""
    group: list[Batch] = []
    num_bytes = num_files = 0
    for batch in batches:
        if group and (num_bytes + batch.num_bytes > BATCH_BYTES or num_files + len(batch.files) > BATCH_FILES):
            yield make_group(group, num_bytes)
            group, num_bytes, num_files = [], 0, 0
        group.append(batch)
        num_bytes += batch.num_bytes
        num_files += len(batch.files)
    if group:
        yield make_group(group, num_bytes)


def make_group(batches: Sequence[Batch], num_bytes: int) -> Batch:
    return batches[0] if len(batches) == 1 else BatchGroup(tuple(batches), num_bytes)
