import errno
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xxhash

from neox_code.corpus.duplicates import buckets
from neox_code.corpus.duplicates.exact import ExactDuplicates


def some_files(count, generator):
    """Return (key, project, row) with many repeated keys, some of which share their first half."""
    keys = generator.integers(0, count // 2, count)
    return [(bytes([key % 5]) + bytes(7) + int(key).to_bytes(8, "big"), key % 7, row) for row, key in enumerate(keys.tolist())]


def expected_duplicates(files):
    survivors = {}
    for key, project, row in files:
        survivors[key] = min(survivors.get(key, (project, row)), (project, row))
    return {row: survivors[key][1] for key, _, row in files if survivors[key][1] != row}


def found_duplicates(rule, folder, files, block):
    found = {}
    with rule.groups(folder) as groups:
        for start in range(0, len(files), block):
            keys, projects, rows = zip(*files[start : start + block], strict=True)
            groups.add(np.array(keys, f"V{rule.key_bytes}"), np.array(projects, np.int32), np.array(rows))
        for dropped, survivors in groups.duplicates():
            assert found.keys().isdisjoint(dropped.tolist())
            found |= dict(zip(dropped.tolist(), survivors.tolist(), strict=True))
    assert not folder.exists() or not list(folder.iterdir())
    return found


@pytest.mark.parametrize("buffered", [buckets.BUFFERED, 100])
def test_the_smallest_project_and_row_is_kept_in_any_order_and_blocks(tmp_path, monkeypatch, buffered):
    monkeypatch.setattr(buckets, "BUFFERED", buffered)
    generator = np.random.default_rng(0)
    files = some_files(3000, generator)
    expected = expected_duplicates(files)
    assert len(expected) > 1000
    for block in (1, 77, 3000):
        generator.shuffle(files)
        assert found_duplicates(ExactDuplicates(), tmp_path / "keys", files, block) == expected


def test_no_files_give_no_duplicates(tmp_path):
    with ExactDuplicates().groups(tmp_path) as groups:
        assert list(groups.duplicates()) == []
        groups.add(np.empty(0, "V16"), np.empty(0, np.int32), np.empty(0, np.int64))
        assert list(groups.duplicates()) == []


def test_files_of_a_killed_run_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "BUFFERED", 1)
    killed = ExactDuplicates().groups(tmp_path)
    killed.__enter__().add(np.array([b"a" * 16], "V16"), np.zeros(1, int), np.zeros(1, int))
    assert list(tmp_path.iterdir())
    assert found_duplicates(ExactDuplicates(), tmp_path, [(b"a" * 16, 0, 5)], 1) == {}


def test_a_full_disk_is_reported(tmp_path, monkeypatch):
    """Also if only the last bytes do not fit, where numpy's tofile raises no error."""
    monkeypatch.setattr(buckets, "BUFFERED", 1)
    key = np.array([b"a" * 16], "V16")
    with ExactDuplicates().groups(tmp_path) as groups:
        groups.add(key, np.zeros(1, int), np.zeros(1, int))
        (records,) = tmp_path.iterdir()
        records.unlink()
        records.symlink_to("/dev/full")
        with pytest.raises(OSError) as caught:
            groups.add(key, np.zeros(1, int), np.ones(1, int))
    assert caught.value.errno == errno.ENOSPC


def test_keys_depend_on_the_bytes_or_on_the_text():
    content, text = b"caf\xe9\r\n", "café\n"
    assert ExactDuplicates().key(content, text) == hashlib.sha256(content).digest()[:16]
    assert ExactDuplicates().key(b"other", text) == hashlib.sha256(b"other").digest()[:16]
    assert ExactDuplicates(of="text").key(content, text) == xxhash.xxh3_128(text.encode()).digest()
    assert ExactDuplicates(of="text").key(content, "\ud800") is not None


def test_memory_does_not_grow_with_the_number_of_keys():
    """100 million keys with the same command take at most 2 GB."""

    def peak_gib(count):
        command = [sys.executable, "-m", "tests.corpus.duplicates.many_keys", str(count)]
        output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3]).stdout
        assert output.startswith(f"{count:,} keys, ")
        return float(re.search(r"peak ([\d.]+) GiB", output)[1])

    assert peak_gib(4_000_000) < peak_gib(1_000_000) + 0.05
