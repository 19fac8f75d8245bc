"""Libraries of C++ files: compiled once, by processes that start together, and after a compilation that was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neox_code.native_library import find_compiler, find_library_path, load_library

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
LOAD = """
import sys
from pathlib import Path
from neox_code.native_library import load_library
print(load_library(Path(sys.argv[1]), "a test").two())
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "two.cpp"
    path.write_text('extern "C" int two() { return 2; }')
    return path


def list_kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "neox-code").glob("*"))


def write_compiler(tmp_path: Path, commands: str) -> str:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)
    return str(path)


@needs_compiler
def test_processes_that_start_together_leave_one_library_which_later_ones_load_without_a_compilation(source, tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", LOAD, source], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == ["2\n"] * 3
    (name,) = list_kept(tmp_path)
    kept = tmp_path / "cache" / "neox-code" / name
    written = kept.stat().st_mtime_ns
    assert load_library(source, "a test").two() == 2
    assert kept.stat().st_mtime_ns == written
    source.write_text('extern "C" int two() { return 3; }')
    assert find_library_path(source, Path(find_compiler())) != kept


@needs_compiler
def test_a_compilation_that_was_killed_changes_nothing(source, tmp_path, monkeypatch):
    compiler = write_compiler(tmp_path, f"touch {tmp_path}/started; sleep 60")
    environment = os.environ | {"CXX": compiler}
    with subprocess.Popen([sys.executable, "-c", LOAD, source], env=environment, start_new_session=True) as process:
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert load_library(source, "a test").two() == 2
    assert len(list_kept(tmp_path)) == 1


@needs_compiler
def test_a_folder_that_cannot_be_written_is_no_obstacle(source, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert load_library(source, "a test").two() == 2


def test_the_reason_is_logged_if_there_is_no_compiler_or_it_fails(source, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert load_library(source, "a test") is None
    assert "there is no C++ compiler" in capfd.readouterr().err
    load_library.cache_clear()
    monkeypatch.setenv("CXX", write_compiler(tmp_path, "echo unknown option >&2; exit 1"))
    assert load_library(source, "a test") is None
    assert "unknown option" in capfd.readouterr().err
    assert not list_kept(tmp_path)
