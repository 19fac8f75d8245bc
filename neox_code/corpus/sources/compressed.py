"""Compressed files as streams: gzip, bzip2, xz and zstd, expanded in small steps up to a limit.

    with open_decompressed(Path("rows.jsonl.zst")) as (stream, position):
        for line in stream:
            print(position(), "bytes of the file are read")

A truncated or damaged file raises one of the exceptions DAMAGED. So does a file that expands to more than EXPANSION_ALLOWED bytes
and to more than EXPANSION_RATIO times the bytes read from it: source code shrinks to a fifth, not to a thousandth.
"""

import bz2
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import zstandard

from neox_code.corpus.sources.source_names import make_printable

EXPANSION_ALLOWED = 2**30
EXPANSION_RATIO = 200
EXPANDS = f"it expands to more than {EXPANSION_RATIO} times its size"
INPUT_BYTES = 1024  # zstd, whose output cannot be bounded, makes at most 32 MiB of it
OUTPUT_BYTES = 2**18
LARGEST_WINDOW = 2**27
LARGEST_XZ_MEMORY = 2**28


class BrokenArchive(Exception):
    """Error for a damaged or hostile archive, if the library that reads the archive does not report it."""


@dataclass(frozen=True)
class Damage:
    """Description of the damage of an archive or dataset. Nothing after the damage can be read."""

    words: str


Item = TypeVar("Item")

DAMAGED = (
    BrokenArchive,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    struct.error,
    EOFError,
    OSError,
    ValueError,  # bad numbers, and names that are not the encoding they claim
    OverflowError,
    MemoryError,  # sizes that no file has
    RuntimeError,  # features that the reader lacks (NotImplementedError)
)
"""The exceptions of archive libraries for damaged and hostile archives."""


def yield_with_damage(
    items: Iterable[Item], path: Path, errors: tuple[type[BaseException], ...] = DAMAGED
) -> Iterator[Item | Damage]:
    """Yield `items`, which are read from `path`. If reading fails with one of `errors`, yield a Damage as the last item."""
    try:
        yield from items
    except errors as error:
        yield Damage(describe_error(error, path))


def describe_error(error: BaseException, path: Path) -> str:
    return make_printable(str(error).partition("\n")[0]).replace(str(path), "it")


def make_zstd_decompressor() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()


FORMATS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_XZ_MEMORY),
    b"\x28\xb5\x2f\xfd": make_zstd_decompressor,
    **{
        bytes([number]) + b"\x2a\x4d\x18": make_zstd_decompressor for number in range(0x50, 0x60)
    },  # a skippable frame, with which files of pzstd begin
}
"""First bytes of a compressed frame -> function that makes its decompressor."""


@contextmanager
def open_decompressed(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """Open a file, compressed or not. Yield the decompressed stream, and a function that returns the bytes read from the file."""
    with path.open("rb", buffering=2**18) as file:
        new = find_decompressor(file.read(8))
        file.seek(0)
        yield (file if new is None else io.BufferedReader(Frames(file, new), 2**18)), file.tell


def is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return find_decompressor(file.read(8)) is not None


def find_decompressor(start: bytes) -> Callable[[], Any] | None:
    return next((new for magic, new in FORMATS.items() if start.startswith(magic)), None)


class Frames(io.RawIOBase):
    """Stream of the decompressed content of all frames of a file."""

    def __init__(self, file: IO[bytes], new: Callable[[], Any]):
        self.file = file
        self.new = new
        self.frame = new()
        self.rest = b""
        self.waiting = memoryview(b"")
        self.expanded = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.waiting:
            content = self._decompress_more()
            if content is None:
                return 0
            self.waiting = memoryview(content)
        count = min(len(self.waiting), len(buffer))
        buffer[:count] = self.waiting[:count]
        self.waiting = self.waiting[count:]
        return count

    def _decompress_more(self) -> bytes | None:
        if self.expanded > EXPANSION_ALLOWED and self.expanded > EXPANSION_RATIO * self.file.tell():
            raise BrokenArchive(EXPANDS)
        data = b""
        if self.frame.eof or getattr(self.frame, "needs_input", True):
            data = self.rest or self.file.read(INPUT_BYTES)
            if self.frame.eof:
                data = data.lstrip(b"\0") or self.file.read(INPUT_BYTES)
                if not data:
                    return None
                self.frame = self.new()
            elif not data:
                raise EOFError("it breaks off")
        content = self._decompress(data)
        self.rest = self.frame.unused_data if self.frame.eof else b""
        self.expanded += len(content)
        return content

    def _decompress(self, data: bytes) -> bytes:
        bounded = hasattr(self.frame, "needs_input")
        return self.frame.decompress(data, OUTPUT_BYTES) if bounded else self.frame.decompress(data)
