"""Read the directory of a zip archive one entry at a time, so that the entries before any damage can be read.

    with Path("code.zip").open("rb") as archive:
        directory = find_directory(archive)
        for entry in read_entries(archive, directory):
            print(entry.name, entry.num_bytes, entry.offset)

Layout of the records that are read (little endian; "x4" is 4 bytes that are skipped). An extra field has 2 bytes of tag, 2 bytes of
size, and the data; tag 1 is zip64:

    entry              PK12  version x4  flags method time x4  crc  stored size  lengths of name, extra, comment  x8 mode offset
    zip64 end          PK66  x20 entries x8 size offset
    zip64 locator      PK67  x4  offset of the zip64 end  x4
    end                PK56  x4 x2 entries size offset  length of comment
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from neox_code.corpus.sources.compressed import BrokenArchive

ENTRY = struct.Struct("<4s4xHH4xLLLHHH6xHL")
ENTRY_MAGIC = b"PK\x01\x02"
END = struct.Struct("<4s6xHLLH")
END_MAGIC = b"PK\x05\x06"
LOCATOR = struct.Struct("<4s4xQ4x")
LOCATOR_MAGIC = b"PK\x06\x07"
ZIP64_END = struct.Struct("<4s28xQQQ")
ZIP64_END_MAGIC = b"PK\x06\x06"
ZIP64_END_SIZE = 56
LARGEST_COMMENT = 2**16
IN_ZIP64 = 0xFFFFFFFF
ZIP64_TAG = 1
FLAG_UTF8 = 0x800


@dataclass(frozen=True, slots=True)
class Directory:
    start: int
    end: int
    shift: int
    """Number of bytes before the archive in its file, as in a self-extracting archive. It is added to stored offsets."""


@dataclass(frozen=True, slots=True)
class ZipEntry:
    name: bytes | str
    flags: int
    method: int
    crc: int
    stored_bytes: int
    num_bytes: int
    mode: int
    offset: int
    """Offset of the member's local header in the file, in bytes."""

    @property
    def is_folder(self) -> bool:
        return self.name[-1:] in (b"/", "/")


def find_directory(archive: IO[bytes]) -> Directory:
    """Return where the directory is in the file. Raise BrokenArchive if the file does not end like a zip archive."""
    size = archive.seek(0, os.SEEK_END)
    first = max(size - END.size - LARGEST_COMMENT, 0)
    archive.seek(first)
    tail = archive.read()
    place = tail.rfind(END_MAGIC)
    if place < 0 or len(tail) - place < END.size:
        raise BrokenArchive("it has no directory at its end")
    _, _, num_bytes, offset, _ = END.unpack_from(tail, place)
    end = first + place
    large = read_zip64_end(archive, end)
    if large is not None:
        end, num_bytes, offset = large
    start = end - num_bytes
    if start < offset:
        raise BrokenArchive("its directory is not at its stated position")
    return Directory(start, end, start - offset)


def read_zip64_end(archive: IO[bytes], end: int) -> tuple[int, int, int] | None:
    """Return the end, size and offset of the directory from the zip64 record; None if there is none."""
    if end < LOCATOR.size + ZIP64_END_SIZE:
        return None
    archive.seek(end - LOCATOR.size - ZIP64_END_SIZE)
    record, locator = archive.read(ZIP64_END_SIZE), archive.read(LOCATOR.size)
    if not locator.startswith(LOCATOR_MAGIC) or not record.startswith(ZIP64_END_MAGIC):
        return None
    _, _, num_bytes, offset = ZIP64_END.unpack_from(record)
    return end - LOCATOR.size - ZIP64_END_SIZE, num_bytes, offset


def read_entries(archive: IO[bytes], directory: Directory) -> Iterator[ZipEntry]:
    """Yield the entries of the directory in order. Raise BrokenArchive at a damaged entry."""
    place = directory.start
    archive.seek(place)
    while place < directory.end:
        fixed = archive.read(ENTRY.size)
        if len(fixed) < ENTRY.size or not fixed.startswith(ENTRY_MAGIC):
            raise BrokenArchive("its directory is damaged")
        _, flags, method, crc, stored, size, name_length, extra_length, comment_length, mode, offset = ENTRY.unpack(fixed)
        place += ENTRY.size + name_length + extra_length + comment_length
        if place > directory.end:
            raise BrokenArchive("its directory is damaged")
        name, extra = archive.read(name_length), archive.read(extra_length)
        archive.seek(comment_length, os.SEEK_CUR)
        size, stored, offset = apply_zip64_fields([size, stored, offset], extra)
        text = name if flags & FLAG_UTF8 else name.decode("cp437")
        yield ZipEntry(text, flags, method, crc, stored, size, mode, offset + directory.shift)


def apply_zip64_fields(values: list[int], extra: bytes) -> list[int]:
    """Return an entry's `values`. A value too large for its field is replaced by the next one of the zip64 extra field."""
    if IN_ZIP64 not in values:
        return values
    field = b""
    while len(extra) >= 4:
        tag, length = struct.unpack_from("<HH", extra)
        if tag == ZIP64_TAG:
            field = extra[4 : 4 + length]
            break
        extra = extra[4 + length :]
    wide = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
    return [next(wide, value) if value == IN_ZIP64 else value for value in values]
