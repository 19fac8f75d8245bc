"""Checksums of a checkpoint's files: xxh3-64 of the content, in `checksums` of run.json.

    compute_checksum(path)                 # "9a3f...", at the speed of memory
    read_recorded_checksum(path)           # of the checkpoint that the file belongs to; None if it has none

They find damage, not forgery.
"""

import json
from functools import lru_cache
from pathlib import Path

import xxhash

from neox_code.checkpoint.layout import RUN_RECORD
from neox_code.files import MOST_BYTES

CHUNK_BYTES = 2**24

DEEPEST = 3
"""Number of folders between a file and run.json, at most: global_stepN/zero/NAME/fp32.pt."""


def compute_checksum(path: str | Path) -> str:
    """Return the checksum of a file's content as 16 hexadecimal digits."""
    checksum = xxhash.xxh3_64()
    with Path(path).open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum.update(chunk)
    return checksum.hexdigest()


def read_recorded_checksum(path: str | Path) -> str | None:
    """Return the checksum that run.json has for a file of its checkpoint; None if there is none."""
    path = Path(path)
    for folder in list(path.parents)[:DEEPEST]:
        record = folder / RUN_RECORD
        if record.is_file():
            return read_checksums(record, record.stat().st_mtime_ns).get(str(path.relative_to(folder)))
    return None


@lru_cache(maxsize=8)
def read_checksums(record: Path, changed_ns: int) -> dict[str, str]:
    """Return the checksums in a run.json, by path in its folder; {} if it is damaged, which `record.read_record` reports."""
    try:
        with record.open("rb") as file:
            found = json.loads(file.read(MOST_BYTES)).get("checksums")
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
