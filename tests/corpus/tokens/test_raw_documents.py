import os
import subprocess
from pathlib import Path

import pytest

from neox_code.corpus.tokens.input_slices import slice_input
from neox_code.corpus.tokens.raw_documents import list_files
from neox_code.errors import DataError


def test_regular_files_with_content_are_listed_in_path_order(tmp_path: Path) -> None:
    contents = {"a/z.py": "1", "a.py": "2", "b/.hidden": "3", "README": "\ufeff4\r\n", "a/b/c": "5"}
    for path, text in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode())
    (tmp_path / "empty.py").touch()
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    files = list_files(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main")
    assert [str(path.relative_to(tmp_path)) for path in files.paths] == ["README", "a/b/c", "a/z.py", "a.py", "b/.hidden"]
    texts = [text for input_slice in slice_input(tmp_path) for text in input_slice.read_texts()]
    assert {text.place.removeprefix(f"{tmp_path}/"): text.text for text in texts} == contents
    assert sum(text.num_bytes for text in texts) == 10
    assert files.left_out == {"empty files": 1, "links and special files": 3}


def test_a_folder_without_content_and_a_file_that_is_not_utf8_are_reported(tmp_path: Path) -> None:
    (tmp_path / "empty.py").touch()
    with pytest.raises(DataError, match=r"has no file with content \(found: 1 empty files\)"):
        list_files(tmp_path)
    (tmp_path / "latin.py").write_bytes(b"caf\xe9")
    ((rejected,),) = (list(input_slice.read_texts()) for input_slice in slice_input(tmp_path))
    assert (rejected.place, rejected.problem) == (f"{tmp_path}/latin.py", "is not UTF-8: byte 0xE9 at 3")


def test_a_folder_1100_levels_deep_is_listed(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 1_100)
    subprocess.run(["mkdir", "-p", deep], check=True)
    (deep / "a.py").write_text("x")
    try:
        assert [path.name for path in list_files(tmp_path).paths] == ["a.py"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
