"""Group the listed files of a source in batches; drop reasons that all sources share.

    yield from make_batches(listed, FolderBatch)              # (FoundFile, place of its content) -> batches of about 8 MiB
    yield from merge_small_batches(batches)

A batch has at most BATCH_FILES files, including files that are not read. This bounds the memory of a batch of very small files.
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
    """Return True if the content of a file is read. The target of a link is read only if it is named like a license file."""
    return file.reason is None or (file.reason == LINK and states_license(file.path) and file.num_bytes <= LONGEST_NAME)


def set_content(file: FoundFile, content: bytes | None) -> None:
    """Set the file's content, or its link target, or the reason why it cannot be read. `content` is None if reading has failed."""
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
    """Yield the files of a batch with their contents, and the number of bytes read so far. `read` returns the content of a file."""
    done = 0
    for file, place in files:
        if has_readable_content(file) and file.link is None:
            done += file.num_bytes if file.reason is None else 0
            set_content(file, read(file, place))
        yield file, done


def find_replaced_members(paths: Callable[[], Iterable[str]]) -> set[int]:
    """Return the numbers of the archive members that a later member with the same path replaces.

    `paths` yields the path of every member; "" for a member that is not a file. If a path is repeated, `paths` is called again. A
    member takes 8 bytes of memory.
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
    """Group listed files in batches of about BATCH_BYTES. `build` makes a batch from (file, place) pairs and their bytes."""
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
    """Several small batches as one batch: one process reads them one after another."""

    members: tuple[Batch, ...]
    num_bytes: int

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        before = 0
        for member in self.members:
            for file, done in member.read():
                yield file, before + done
            before += member.num_bytes


def merge_small_batches(batches: Iterable[ListOfFiles]) -> Iterator[Batch]:
    """Yield the batches in order. Consecutive small batches are merged up to BATCH_BYTES and BATCH_FILES."""
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
