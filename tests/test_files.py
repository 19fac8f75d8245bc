"""Files and folders that are whole or absent."""

import os
import threading

import pytest

from neox_code.errors import DataError, LaunchError
from neox_code.files import (
    append_json_line,
    atomic_file,
    find_numbered_folders,
    folder_lock,
    read_json,
    read_json_lines,
    write_text,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "a") as file:
        file.write("new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(IsADirectoryError) as caught, atomic_file(tmp_path):
        raise AssertionError
    assert (caught.value.filename, list(tmp_path.parent.glob("*.partial"))) == (str(tmp_path), [])


def make_sparse(path, size=5 * 10**9):
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "does not exist"),
        (os.mkdir, "is a folder"),
        (os.mkfifo, "is a pipe or a device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels"),
        (make_sparse, r"has 5,000,000,000 bytes, and at most 100,000,000 are read"),
        (lambda path: path.write_text("[" * 10**5), "is not valid JSON"),
    ],
)
def test_a_file_is_read_within_bounds(tmp_path, make, reason):
    make(tmp_path / "a")
    with pytest.raises(DataError, match=reason):
        read_json(tmp_path / "a")


def test_a_name_that_is_no_name_is_reported():
    with pytest.raises(DataError, match="null byte"):
        read_json("a\0b")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "text")
    reader.join(5)
    assert received == ["text"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    append_json_line(tmp_path / "rows", {"a": 1})
    with (tmp_path / "rows").open("a") as file:
        file.write('{"a": 2')
    assert list(read_json_lines(tmp_path / "rows")) == [{"a": 1}]


@pytest.mark.parametrize("line", [b"\x1f\x8b\x08\xff\n", b"{'a': 1}\n", b"[" * 100_000 + b"\n"])
def test_a_line_that_is_no_json_is_refused_with_its_place(tmp_path, line):
    (tmp_path / "rows").write_bytes(b'{"a": 1}\n' + line)
    with pytest.raises(DataError, match=r"rows:2 is not valid JSON: .*Correct or remove the line"):
        list(read_json_lines(tmp_path / "rows"))


def test_a_folder_is_locked_by_one_process_at_a_time(tmp_path):
    with folder_lock(tmp_path), pytest.raises(LaunchError, match=f"in use by process {os.getpid()}"), folder_lock(tmp_path):
        pass
    with folder_lock(tmp_path):
        pass


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("step10", "step9", "step8.partial", "other7"):
        (tmp_path / name).mkdir()
    (tmp_path / "step11").touch()
    assert list(find_numbered_folders(tmp_path, "step")) == [9, 10]
