"""A cache of arrays in a folder. Several processes, runs and hosts can use the folder at the same time.

    cache = IndexCache("data_cache/sample_indices")
    arrays = cache.get({"idx_sha256": "...", "seed": 1}, num_entries, make)      # {"shuffle_index": memory-mapped array, ...}

    data_cache/sample_indices/
        HASH/                       the hash is of the key; a folder of this name is complete
            description.json        the key, and the size of each file
            NAME.npy
        HASH.lock                   held while HASH is made; the kernel releases it when the process ends in any way
        HASH.RANDOM.partial/        being written; after a kill, the next process that makes HASH deletes it

A key contains all values that determine the arrays, and hashes instead of file contents. A folder with its final name is never
changed; it is removed only if it is damaged.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neox_code.errors import DataError
from neox_code.files import read_json, write_json
from neox_code.logs import get_logger

log = get_logger(__name__)

SMALLEST_KEPT = 2**18
"""Minimum number of array entries for storage on disk. Computing smaller arrays is faster than reading them from a disk."""

DESCRIPTION_FILE = "description.json"

Arrays = dict[str, NDArray[Any]]


class IndexCache:
    """A cache of arrays by key. Without a folder, or below `smallest` entries, the arrays are computed in memory each time."""

    def __init__(self, folder: str | os.PathLike[str] | None, smallest: int = SMALLEST_KEPT):
        self.folder = Path(folder) if folder is not None else None
        self.smallest = smallest

    def get(self, key: Mapping[str, Any], num_entries: int, make: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of `key`, memory-mapped from the folder. If the folder lacks them, call `make` and store its arrays.

        Processes that need the same key at the same time wait for the first one. If the folder cannot be written, the arrays stay
        in memory and a warning is logged.
        """
        if self.folder is None or num_entries < self.smallest:
            return make()
        entry = self.folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        if (arrays := load_entry(entry, key)) is not None:
            return arrays
        made: Arrays | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with lock_entry(entry) as is_locked:
                if (arrays := load_entry(entry, key)) is None:
                    made = make()
                    store_entry(entry, key, made, is_locked)
                    arrays = load_entry(entry, key)
        except OSError as error:
            log.warning("sample indices cannot be written to %s (%s): they stay in memory", self.folder, error.strerror or error)
        if arrays is None:
            arrays = made if made is not None else make()
        return arrays


@contextmanager
def lock_entry(entry: Path) -> Iterator[bool]:
    """Wait for the lock of an entry and hold it. Yield True, or False on a file system without locks."""
    with entry.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def load_entry(entry: Path, key: Mapping[str, Any]) -> Arrays | None:
    """Return the memory-mapped arrays of an entry; None if the entry is missing, damaged, or has another key."""
    try:
        description = read_json(entry / DESCRIPTION_FILE)
        if description["key"] != json.loads(json.dumps(key)):
            return None
        files = {name: entry / f"{name}.npy" for name in description["bytes"]}
        if any(file.stat().st_size != description["bytes"][name] for name, file in files.items()):
            return None
        return {name: np.load(file, mmap_mode="r") for name, file in files.items()}
    except (DataError, OSError, ValueError, TypeError, KeyError):
        return None


def store_entry(entry: Path, key: Mapping[str, Any], arrays: Arrays, is_locked: bool) -> None:
    """Write an entry under a unique name, then rename it."""
    if is_locked:
        for abandoned in entry.parent.glob(f"{entry.name}.*.partial"):
            shutil.rmtree(abandoned, ignore_errors=True)
    unique = secrets.token_hex(8)
    temporary, damaged = (entry.with_name(f"{entry.name}.{unique}{suffix}.partial") for suffix in ("", ".damaged"))
    try:
        temporary.mkdir()
        sizes = {}
        for name, array in arrays.items():
            with (temporary / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
                sizes[name] = file.tell()
        write_json(temporary / DESCRIPTION_FILE, {"key": key, "bytes": sizes})
        if entry.exists() and load_entry(entry, key) is None:
            entry.rename(damaged)
        try:
            temporary.rename(entry)
        except OSError:
            if load_entry(entry, key) is None:  # if not, another process wrote it first on a file system without locks
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)
