"""A manifest is read in batches, so that memory does not grow with its rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from neox_code.corpus.description.manifest_figures import BATCH_ROWS, MANIFEST_COLUMNS, read_batches
from neox_code.corpus.shards import MANIFEST_FILE, MANIFEST_SCHEMA, open_parquet_writer

MEASURE = """
import sys
import pyarrow
from neox_code.corpus.description.manifest_figures import read_manifest_figures
print(read_manifest_figures(sys.argv[1]).num_rows, pyarrow.default_memory_pool().max_memory())
"""


def write_manifest(folder: Path, num_groups: int, rows_per_group: int = 2**16) -> int:
    """Write rows whose paths and hashes do not repeat; return their size in memory in bytes."""
    folder.mkdir()
    num_bytes = 0
    repeated = ["repository", "language", "verdict", "license"]
    with open_parquet_writer(folder / MANIFEST_FILE, MANIFEST_SCHEMA, repeated) as writer:
        for group in range(num_groups):
            numbers = np.arange(group * rows_per_group, (group + 1) * rows_per_group)
            paths = [f"source/of/a/longer/folder/and/file_{number * 7919:030d}.py" for number in numbers.tolist()]
            columns = {name: pa.nulls(rows_per_group, MANIFEST_SCHEMA.field(name).type) for name in MANIFEST_SCHEMA.names} | {
                "repository": pa.array([f"a/project{number // 5000}" for number in numbers.tolist()]),
                "path": pa.array(paths),
                "bytes": pa.array(numbers % 5000),
                "verdict": pa.array(np.where(numbers % 3 == 0, "kept", "exact duplicate")),
                "duplicate_of": pa.array([f"a/b/{path}" if number % 3 else None for number, path in enumerate(paths)]),
            }
            rows = pa.table(columns, schema=MANIFEST_SCHEMA)
            num_bytes += rows.nbytes
            writer.write_table(rows)
    return num_bytes


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks, sizes = [], []
    for num_groups in (2, 6):
        folder = tmp_path / str(num_groups)
        sizes.append(write_manifest(folder, num_groups))
        process = subprocess.run([sys.executable, "-c", MEASURE, folder], capture_output=True, text=True, check=True, timeout=60)
        num_rows, peak = map(int, process.stdout.split())
        assert num_rows == num_groups * 2**16
        peaks.append(peak)
    assert peaks[1] < peaks[0] + (sizes[1] - sizes[0]) / 20


def test_a_large_row_group_is_read_in_batches(tmp_path: Path) -> None:
    write_manifest(tmp_path / "corpus", 1, 2 * BATCH_ROWS + 5)
    batches = [len(rows) for rows in read_batches(tmp_path / "corpus" / MANIFEST_FILE, MANIFEST_COLUMNS)]
    assert sum(batches) == 2 * BATCH_ROWS + 5
    assert max(batches) <= BATCH_ROWS
