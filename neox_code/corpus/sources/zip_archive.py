"""Zip archives. Members are listed by the archive's directory and read in batches; nothing is unpacked to disk.

    source = ZipSource("torvalds/linux", Path("torvalds__linux.zip"))

No more bytes of a member are read than the directory states and `check` has accepted. Two kinds of members are not read, because
they occur in zip bombs: members that share bytes with another member, and members after the expanded content has reached
EXPANSION_RATIO times the archive's size.
"""

import bz2
import lzma
import stat
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from neox_code.corpus.sources.batches import (
    ENCRYPTED,
    LINK,
    NOT_A_FILE,
    REPLACED,
    UNREADABLE,
    find_replaced_members,
    make_batches,
    read_listed_files,
)
from neox_code.corpus.sources.compressed import (
    DAMAGED,
    EXPANSION_ALLOWED,
    EXPANSION_RATIO,
    BrokenArchive,
    Damage,
    yield_with_damage,
)
from neox_code.corpus.sources.folder_layout import locate_file
from neox_code.corpus.sources.protocol import Batch, FileCheck, FoundFile
from neox_code.corpus.sources.source_names import UNNAMED, clean_member_path
from neox_code.corpus.sources.zip_directory import Directory, ZipEntry, find_directory, read_entries

OVERLAPPING = "overlaps another member"
EXPANDING = f"past {EXPANSION_RATIO} times its archive's size"

LOCAL_HEADER = struct.Struct("<4s22xHH")
LOCAL_MAGIC = b"PK\x03\x04"
FLAG_ENCRYPTED = 0x1
LARGEST_SIZE = 2**62
LZMA_HEADER = struct.Struct("<2xHBL")
STORED_ALLOWED = 2**16
"""A compressed member may have at most twice the size of its content plus this number of bytes."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """Place, compression method and checksum of a member's content."""

    offset: int
    """Offset of the member's local header in the archive, in bytes."""
    stored_bytes: int
    method: int
    crc: int


@dataclass(frozen=True)
class ZipSource:
    name: str
    path: Path
    layout: str = "repository"

    def batches(self, check: FileCheck) -> Iterator[Batch]:
        return make_batches(self._list_members(check), lambda files, work: ZipBatch(self.path, files, work))

    def _list_members(self, check: FileCheck) -> Iterator[tuple[FoundFile, ZipMember]]:
        """Yield every file in the archive's directory. If it is damaged, the last file has an empty path and the reason."""
        members = 0
        allowed = max(EXPANSION_ALLOWED, EXPANSION_RATIO * self.path.stat().st_size)
        replaced = find_replaced_members(self._paths)
        for found in yield_with_damage(read_zip_entries(self.path), self.path):
            if isinstance(found, Damage):
                project, _ = locate_file(self.name, self.layout, "")
                yield FoundFile(project, "", 0, f"damaged after {members:,} members: {found.words}"), ZipMember(0, 0, 0, 0)
                return
            members += 1
            entry, reason = found
            if entry.is_folder:
                continue
            project, path = locate_file(self.name, self.layout, clean_member_path(entry.name) or UNNAMED)
            num_bytes = min(entry.num_bytes, LARGEST_SIZE)
            if members - 1 in replaced:
                reason = REPLACED
            file = FoundFile(project, path, num_bytes, reason or check(project, path, num_bytes))
            if file.reason is None:
                allowed -= num_bytes
                file.reason = EXPANDING if allowed < 0 else None
            yield file, ZipMember(entry.offset, entry.stored_bytes, entry.method, entry.crc)

    def _paths(self) -> Iterator[str]:
        for found in yield_with_damage(read_zip_entries(self.path), self.path):
            if not isinstance(found, Damage):
                yield "" if found[0].is_folder else clean_member_path(found[0].name)


def read_zip_entries(path: Path) -> Iterator[tuple[ZipEntry, str | None]]:
    """Yield each entry of an archive's directory, with the reason why the member is not read, or None."""
    with path.open("rb", buffering=2**18) as archive:
        directory = find_directory(archive)
        overlapping = find_overlaps(archive, directory)
        for number, entry in enumerate(read_entries(archive, directory)):
            yield entry, OVERLAPPING if number in overlapping else find_entry_drop_reason(entry, directory.start)


def find_entry_drop_reason(entry: ZipEntry, end: int) -> str | None:
    kind = stat.S_IFMT(entry.mode)
    if kind not in (0, stat.S_IFREG):
        return LINK if kind == stat.S_IFLNK else NOT_A_FILE
    if entry.offset + LOCAL_HEADER.size + entry.stored_bytes > end:
        return UNREADABLE
    return ENCRYPTED if entry.flags & FLAG_ENCRYPTED else None


def find_overlaps(archive: IO[bytes], directory: Directory) -> set[int]:
    """Return the numbers of the members whose bytes overlap the next member."""
    starts, ends = array("Q"), array("Q")
    with suppress(BrokenArchive):
        for entry in read_entries(archive, directory):
            starts.append(entry.offset)
            ends.append(min(entry.offset + LOCAL_HEADER.size + entry.stored_bytes, 2**64 - 1))
    begin, end = np.frombuffer(starts, np.uint64), np.frombuffer(ends, np.uint64)
    order = np.argsort(begin, kind="stable")
    return set(order[:-1][end[order[:-1]] > begin[order[1:]]].tolist())


@dataclass(frozen=True)
class ZipBatch:
    archive: Path
    files: tuple[tuple[FoundFile, ZipMember], ...]
    num_bytes: int

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        with self.archive.open("rb", buffering=2**16) as archive:
            yield from read_listed_files(self.files, lambda file, member: read_member(archive, member, file.num_bytes))


def read_member(archive: IO[bytes], member: ZipMember, num_bytes: int) -> bytes | None:
    """Return the content of a member; None if it is damaged, its compression method is unknown, or its size is not as stated."""
    try:
        archive.seek(member.offset)
        magic, name_length, extra_length = LOCAL_HEADER.unpack(archive.read(LOCAL_HEADER.size))
        if magic != LOCAL_MAGIC:
            return None
        archive.seek(name_length + extra_length, 1)
        content = decompress(archive.read(min(member.stored_bytes, 2 * num_bytes + STORED_ALLOWED)), member.method, num_bytes)
    except DAMAGED:
        return None
    return content if content is not None and len(content) == num_bytes and zlib.crc32(content) == member.crc else None


def decompress(data: bytes, method: int, num_bytes: int) -> bytes | None:
    """Return the decompressed content, at most `num_bytes` + 1 bytes; None for an unknown compression method."""
    if method == zipfile.ZIP_STORED:
        return data
    if method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-15).decompress(data, num_bytes + 1)
    if method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(data, num_bytes + 1)
    if method == zipfile.ZIP_LZMA:
        return make_lzma_decompressor(data).decompress(data[4 + 5 :], num_bytes + 1)
    return None


def make_lzma_decompressor(data: bytes) -> lzma.LZMADecompressor:
    size, properties, dictionary = LZMA_HEADER.unpack_from(data)
    if size != 5:
        raise ValueError("the LZMA properties have an unexpected size")
    rest, lc = divmod(properties, 9)
    pb, lp = divmod(rest, 5)
    chain = [{"id": lzma.FILTER_LZMA1, "dict_size": min(dictionary, 2**26), "lc": lc, "lp": lp, "pb": pb}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain)
