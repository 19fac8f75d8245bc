"""Copy a part of a corpus, so that contestants have the same input.

    sample = take_sample(Path("code"), Path("sample"), num_bytes=64_000_000)       # code: LANGUAGE/organization/project/...
    sample.num_files, sample.num_bytes

Whole folders are copied in the order of their names' hashes, so that files of one folder, which are often near duplicates, stay
together. The copies are in the page cache when they are read.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from neox_code.errors import DataError

DEPTH = 3
"""Files lie in LANGUAGE/organization/project or deeper."""


@dataclass(frozen=True)
class Sample:
    num_files: int
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.num_files:,} files of {self.num_bytes / 1e6:,.1f} MB"


def take_sample(corpus: Path, folder: Path, num_bytes: int) -> Sample:
    """Copy whole folders of regular files until their size is at least `num_bytes`."""
    if not corpus.is_dir():
        raise DataError(f"{corpus} is not a folder. Give a folder with LANGUAGE/organization/project by --corpus.")
    num_files = copied = 0
    for files in list_folders(corpus):
        if copied >= num_bytes:
            break
        for path in files:
            place = folder / path.relative_to(corpus)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            num_files, copied = num_files + 1, copied + place.stat().st_size
    if not num_files:
        raise DataError(f"{corpus} has no file below LANGUAGE/organization/project. Give another folder with --corpus.")
    return Sample(num_files, copied)


def list_folders(corpus: Path) -> Iterator[list[Path]]:
    """Yield the sorted regular files of each folder at DEPTH or deeper. Folders are ordered by the hashes of their names."""
    found = [Path(root) for root, _, _ in os.walk(corpus) if len(Path(root).relative_to(corpus).parts) >= DEPTH]
    for folder in sorted(found, key=lambda folder: xxhash.xxh3_64_digest(os.fsencode(folder.relative_to(corpus)))):
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]
        if files:
            yield files


def read_sample(folder: Path) -> Sample:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return Sample(len(sizes), sum(sizes))


def read_sample_texts(folder: Path) -> list[str]:
    """Return the sample's texts in the order of their paths, without empty files and files that are not UTF-8."""
    texts = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            texts.append(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            continue
    return list(filter(None, texts))
