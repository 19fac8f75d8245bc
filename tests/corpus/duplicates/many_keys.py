"""Find the exact duplicates among many synthetic keys: measure time and peak memory, and check that all are found.

    python -m tests.corpus.duplicates.many_keys 100_000_000
    100,000,000 keys, 36,788,202 duplicates, 55 s, peak 0.25 GiB

N keys are drawn from N numbers, so that about 1/e of them, 36.8%, are duplicates. They need about 32 bytes per key in the folder
for temporary files (TMPDIR).
"""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from neox_code.corpus.duplicates.exact import KEY_BYTES, ExactDuplicates
from neox_code.errors import DataError, run_command

KEYS_AT_ONCE = 2**16
FILES_IN_PROJECT = 100
SPREAD = np.uint64(0x9E3779B97F4A7C15)


def main(argv: Sequence[str]) -> int:
    """Count the duplicates among the keys, and print time and memory."""
    if len(argv) != 1 or not argv[0].replace("_", "").isdigit():
        raise DataError("the number of keys is missing: python -m tests.corpus.duplicates.many_keys 100_000_000")
    count = int(argv[0])
    generator = np.random.default_rng(0)
    begin = time.perf_counter()
    drawn = np.zeros(count, bool)
    found = 0
    with TemporaryDirectory() as folder, ExactDuplicates().groups(Path(folder)) as groups:
        for start in range(0, count, KEYS_AT_ONCE):
            rows = np.arange(start, min(start + KEYS_AT_ONCE, count))
            numbers = generator.integers(0, count, len(rows))
            drawn[numbers] = True
            groups.add(make_keys(numbers), rows // FILES_IN_PROJECT, rows)
        for dropped, _ in groups.duplicates():
            found += len(dropped)
    if found != count - drawn.sum():
        raise DataError(f"found {found:,} duplicates among {count:,} keys, where there are {count - drawn.sum():,}.")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - begin
    print(f"{count:,} keys, {found:,} duplicates, {seconds:.0f} s, peak {peak_gib:.2f} GiB")
    return 0


def make_keys(numbers: np.ndarray) -> np.ndarray:
    """Return a key for each number; its bytes look like a hash."""
    halves = np.empty((len(numbers), 2), np.uint64)
    halves[:, 0] = numbers.astype(np.uint64) * SPREAD
    halves[:, 0] ^= halves[:, 0] >> np.uint64(29)
    halves[:, 1] = halves[:, 0] * SPREAD
    return halves.view(f"V{KEY_BYTES}").reshape(-1)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
