"""Tar archives; nothing is unpacked to disk.

    source = TarSource("linux-6.1", Path("linux-6.1.tar.xz"))

A plain archive is listed by its headers and read in batches. A compressed archive is one batch; it is decompressed once to find
repeated paths and once to read. An archive is one project unless a layout is given. If an archive is damaged, the members before
the damage are kept, and a file with an empty path is yielded, whose reason has their number. Of several members with the same path,
the last is read, as tar does.
"""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from neox_code.corpus.sources.batches import (
    LINK,
    NOT_A_FILE,
    REPLACED,
    find_replaced_members,
    has_readable_content,
    make_batches,
    read_listed_files,
    set_content,
)
from neox_code.corpus.sources.compressed import (
    DAMAGED,
    BrokenArchive,
    Damage,
    describe_error,
    is_compressed,
    open_decompressed,
    yield_with_damage,
)
from neox_code.corpus.sources.folder_layout import locate_file
from neox_code.corpus.sources.protocol import Batch, FileCheck, FoundFile
from neox_code.corpus.sources.source_names import UNNAMED, clean_member_path

LARGEST_HEADER = 2**20
LARGEST_SIZE = 2**62
SPARSE = "sparse file"


@dataclass(frozen=True)
class TarSource:
    name: str
    path: Path
    layout: str = "repository"

    def batches(self, check: FileCheck) -> Iterator[Batch]:
        if is_compressed(self.path):
            yield CompressedTarBatch(self, check, self.path.stat().st_size)
        else:
            yield from make_batches(self._list_members(check), lambda files, work: TarBatch(self.path, files, work))

    def _list_members(self, check: FileCheck) -> Iterator[tuple[FoundFile, int]]:
        """Yield every file of a plain archive with the position of its content."""
        replaced = find_replaced_members(lambda: list_paths(read_members(self.path), self.path))
        for members, member in enumerate(yield_with_damage(read_members(self.path), self.path)):
            if isinstance(member, Damage):
                yield self.make_damaged_file(members, member), 0
            elif not member.isdir():
                yield self.list_member(member, check, members in replaced), member.offset_data

    def list_member(self, member: tarfile.TarInfo, check: FileCheck, is_replaced: bool) -> FoundFile:
        project, path = locate_file(self.name, self.layout, clean_member_path(member.name) or UNNAMED)
        num_bytes = member.size if member.isreg() else 0
        reason = REPLACED if is_replaced else find_kind_drop_reason(member) or check(project, path, num_bytes)
        file = FoundFile(project, path, num_bytes, reason)
        if reason == LINK and has_readable_content(file):
            set_content(file, find_link_target(member).encode("utf-8", "surrogateescape"))
        return file

    def make_damaged_file(self, members: int, damage: Damage) -> FoundFile:
        project, _ = locate_file(self.name, self.layout, "")
        return FoundFile(project, "", 0, f"damaged after {members:,} members: {damage.words}")


def read_members(path: Path) -> Iterator[tarfile.TarInfo]:
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", tarinfo=StrictTarInfo) as archive:
        yield from iter_uncached_members(archive)


def iter_uncached_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive. Empty tarfile's list of members each time, to save memory."""
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]
        yield member


@dataclass(frozen=True)
class TarBatch:
    archive: Path
    files: tuple[tuple[FoundFile, int], ...]
    num_bytes: int

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        with self.archive.open("rb", buffering=0) as archive:
            yield from read_listed_files(self.files, lambda file, offset: read_part(archive, offset, file.num_bytes))


def read_part(archive: IO[bytes], offset: int, num_bytes: int) -> bytes | None:
    try:
        archive.seek(offset)
        content = archive.read(num_bytes)
    except DAMAGED:
        return None
    return content if len(content) == num_bytes else None


@dataclass(frozen=True)
class CompressedTarBatch:
    source: TarSource
    check: FileCheck
    num_bytes: int

    def read(self) -> Iterator[tuple[FoundFile, int]]:
        """Yield the files of the archive, each with the number of bytes read so far from the compressed file."""
        path = self.source.path
        replaced = find_replaced_members(lambda: list_paths((member for _, member, _ in stream_members(path)), path))
        for members, found in enumerate(yield_with_damage(stream_members(path), path)):
            if isinstance(found, Damage):
                yield self.source.make_damaged_file(members, found), self.num_bytes
                return
            archive, member, position = found
            if member.isdir():
                continue
            file = self.source.list_member(member, self.check, members in replaced)
            if file.reason is None:
                try:
                    content = archive.extractfile(member)
                    set_content(file, content.read(file.num_bytes) if content else None)
                except DAMAGED as error:
                    set_content(file, None)
                    yield file, position
                    yield (
                        self.source.make_damaged_file(members + 1, Damage(describe_error(error, self.source.path))),
                        self.num_bytes,
                    )
                    return
            yield file, position


def stream_members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, int]]:
    """Yield (member, its archive, bytes read from the file so far). The archive is positioned at the member's content."""
    with open_decompressed(path) as (stream, position), tarfile.open(fileobj=stream, mode="r|", tarinfo=StrictTarInfo) as archive:
        for member in iter_uncached_members(archive):
            yield archive, member, position()


def list_paths(members: Iterable[tarfile.TarInfo], path: Path) -> Iterator[str]:
    """Yield the path of every member up to the first damage; an empty path for a folder."""
    for member in yield_with_damage(members, path):
        if not isinstance(member, Damage):
            yield "" if member.isdir() else clean_member_path(member.name)


def find_link_target(member: tarfile.TarInfo) -> str:
    """Return the target of a link relative to the link's folder. Tar stores the target of a hard link relative to the root."""
    if member.issym():
        return member.linkname
    return posixpath.relpath(f"/{clean_member_path(member.linkname)}", posixpath.dirname(f"/{clean_member_path(member.name)}"))


def find_kind_drop_reason(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return LINK
    return NOT_A_FILE if not member.isreg() else SPARSE if member.issparse() else None


class StrictTarInfo(tarfile.TarInfo):
    """The header of a member of a tar archive, with stricter checks than tarfile's.

    Raise BrokenArchive for a damaged header, which tarfile takes for the end of the archive. Raise it also for an extended header
    (a long name or pax records) of more than LARGEST_HEADER bytes.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "StrictTarInfo":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise BrokenArchive("it ends without its end mark") from None
        except tarfile.HeaderError as error:
            raise BrokenArchive(str(error)) from None

    def _proc_member(self, *arguments: Any, **keywords: Any) -> "StrictTarInfo":
        if self.type in EXTENSION_HEADERS and self.size > LARGEST_HEADER:
            raise BrokenArchive(f"an extended header of {self.size:,} bytes, expected at most {LARGEST_HEADER:,}")
        self._refuse_odd_size()
        member: StrictTarInfo = tarfile.TarInfo._proc_member(self, *arguments, **keywords)  # type: ignore[attr-defined]
        member._refuse_odd_size()
        return member

    def _refuse_odd_size(self) -> None:
        if not 0 <= self.size < LARGEST_SIZE:
            raise BrokenArchive(f"a member of {self.size:,} bytes")


EXTENSION_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def is_tar_start(start: bytes) -> bool:
    """Return True if the first 512 bytes are a tar header."""
    try:
        tarfile.TarInfo.frombuf(start[:512], tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
