"""A part of a corpus of source files, copied, for contestants that must have the same input.

    sample = take_sample(Path("code"), Path("sample"), num_bytes=64_000_000)       # code: LANGUAGE/organization/project/...
    sample.num_files, sample.num_bytes

Whole folders of files are taken, in the order of their names' hashes, so that siblings, among which near duplicates are, stay
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
    """Copies regular files until there are `num_bytes` of them; a folder is not divided."""
    if not corpus.is_dir():
        raise DataError(f"{corpus} is not a folder. Name a --corpus of folders LANGUAGE/organization/project.")
    num_files = copied = 0
    for files in folders_of_files(corpus):
        if copied >= num_bytes:
            break
        for path in files:
            place = folder / path.relative_to(corpus)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            num_files, copied = num_files + 1, copied + place.stat().st_size
    if not num_files:
        raise DataError(f"{corpus} has no file in folders LANGUAGE/organization/project. Name another --corpus.")
    return Sample(num_files, copied)


def folders_of_files(corpus: Path) -> Iterator[list[Path]]:
    """The regular files of each folder that lies deep enough, sorted; folders by the hashes of their names."""
    found = [Path(root) for root, _, _ in os.walk(corpus) if len(Path(root).relative_to(corpus).parts) >= DEPTH]
    for folder in sorted(found, key=lambda folder: xxhash.xxh3_64_digest(os.fsencode(folder.relative_to(corpus)))):
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]
        if files:
            yield files


def sample_of(folder: Path) -> Sample:
    """The sample that lies in a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return Sample(len(sizes), sum(sizes))


def sample_texts(folder: Path) -> list[str]:
    """The sample's texts, in the order of their paths; what is not UTF-8, or empty, is left out."""
    texts = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            texts.append(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            continue
    return list(filter(None, texts))
