"""Arrays are whole or absent for any number of processes that start, stop and are killed at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neox_code.data import index_cache
from neox_code.data.index_cache import IndexCache

KEY = {"idx_sha256": "ab", "seed": 1}


def make() -> dict[str, np.ndarray]:
    return {"order": np.arange(50_000, dtype=np.int32), "pairs": np.arange(20_000).reshape(-1, 2)}


def never() -> dict[str, np.ndarray]:
    raise AssertionError("made a second time")


def is_right(arrays: dict[str, np.ndarray]) -> bool:
    expected = make()
    return arrays.keys() == expected.keys() and all(np.array_equal(arrays[name], expected[name]) for name in expected)


def names(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def test_arrays_are_made_once_for_each_key(tmp_path: Path) -> None:
    cache = IndexCache(tmp_path / "cache", smallest=0)
    assert is_right(cache.get(KEY, 1, make))
    assert is_right(IndexCache(tmp_path / "cache", smallest=0).get(dict(reversed(KEY.items())), 1, never))
    with pytest.raises(AssertionError, match="second time"):
        cache.get(KEY | {"seed": 2}, 1, never)


def test_few_entries_or_no_folder_write_no_file(tmp_path: Path) -> None:
    assert is_right(IndexCache(tmp_path / "cache", smallest=2).get(KEY, 1, make))
    assert is_right(IndexCache(None, smallest=0).get(KEY, 1, make))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["shorten", "remove", "empty"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    cache = IndexCache(tmp_path, smallest=0)
    kept = cache.get(KEY, 1, make)
    (entry,) = tmp_path.glob("*/order.npy")
    content = entry.read_bytes()
    entry.unlink()
    if damage != "remove":
        entry.write_bytes(content[:-8] if damage == "shorten" else b"")
    assert is_right(cache.get(KEY, 1, make))
    assert is_right(kept)
    assert is_right(cache.get(KEY, 1, never))
    assert names(tmp_path) == ["", ".lock"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert is_right(IndexCache(tmp_path / "cache", smallest=0).get(KEY, 1, make))
    assert "cannot be written to" in caplog.text


def test_a_file_in_the_place_of_the_folder_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("mine")
    assert is_right(IndexCache(tmp_path / "cache", smallest=0).get(KEY, 1, make))
    assert "cannot be written to" in caplog.text and "they stay in memory" in caplog.text


def test_without_locks_the_second_writer_uses_the_entry_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(index_cache.fcntl, "flock", no_locks)
    cache = IndexCache(tmp_path, smallest=0)

    def make_after_another() -> dict[str, np.ndarray]:
        assert is_right(cache.get(KEY, 1, make))
        return make()

    assert is_right(cache.get(KEY, 1, make_after_another))
    assert names(tmp_path) == ["", ".lock"]


STARTER = """
import sys, time
import numpy as np
from neox_code.data.index_cache import IndexCache

def make():
    time.sleep(float(sys.argv[3]))
    return {"order": np.arange(50_000, dtype=np.int32), "pairs": np.arange(20_000).reshape(-1, 2)}

time.sleep(max(0, float(sys.argv[2]) - time.time()))
cache = IndexCache(sys.argv[1], smallest=0)
for seed in (1, 2):
    arrays = cache.get({"idx_sha256": "ab", "seed": seed}, 1, make)
    assert all(np.array_equal(arrays[name], expected) for name, expected in make().items())
print("right")
"""


def test_killed_processes_leave_complete_arrays_to_the_others(tmp_path: Path) -> None:
    moment, pause = time.time() + 3, "0.2"
    command = [sys.executable, "-c", STARTER, str(tmp_path), str(moment), pause]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(12)]
    time.sleep(max(0, moment - time.time()))
    for number, starter in enumerate(starters[:6]):
        time.sleep(0.1)
        starter.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
    answers = [starter.communicate(timeout=600)[0] for starter in starters]
    assert [answer.strip() for answer in answers[6:]] == ["right"] * 6
    assert is_right(IndexCache(tmp_path, smallest=0).get(KEY, 1, never))
    assert names(tmp_path) == ["", "", ".lock", ".lock"]
