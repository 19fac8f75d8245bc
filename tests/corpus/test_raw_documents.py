import hashlib
import json
import os
from pathlib import Path

import pytest

from neox_code.corpus.raw_documents import iter_files, iter_json_lines, list_files
from neox_code.errors import DataError


def test_every_regular_file_with_content_is_a_document_in_path_order(tmp_path: Path) -> None:
    contents = {"a/z.py": "1", "a.py": "2", "b/.hidden": "3", "README": "\ufeff4\r\n", "a/b/c": "5"}
    for path, text in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode())
    (tmp_path / "empty.py").touch()
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    files = list_files(tmp_path)
    documents = list(iter_files(tmp_path, files.paths))
    assert [document.path for document in documents] == ["README", "a/b/c", "a/z.py", "a.py", "b/.hidden"]
    assert {document.path: document.text for document in documents} == contents
    assert documents[0].sha256 == hashlib.sha256("\ufeff4\r\n".encode()).hexdigest()
    assert files.num_bytes == sum(document.num_bytes for document in documents) == 10
    assert files.left_out == {"empty files": 1, "links and special files": 3}


def test_a_folder_without_content_and_a_file_that_is_not_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.py").touch()
    with pytest.raises(DataError, match=r"has no file with content \(found: 1 empty files\)"):
        list_files(tmp_path)
    (tmp_path / "latin.py").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"latin\.py is not UTF-8: byte 0xE9 at 3"):
        list(iter_files(tmp_path, list_files(tmp_path).paths))


def test_rows_are_read_by_their_key_and_kept_to_the_character(tmp_path: Path) -> None:
    texts = ["a\r\n\u2028b\x85", "", "<|endoftext|>\0"]
    rows = [json.dumps({"text": text, "code": text.upper()}) for text in texts]
    (tmp_path / "rows.jsonl").write_text("\n\n".join(rows) + "\n", encoding="utf-8", newline="")
    assert [document.text for document in iter_json_lines(tmp_path / "rows.jsonl", "text")] == texts
    assert [document.text for document in iter_json_lines(tmp_path / "rows.jsonl", "code")] == [text.upper() for text in texts]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "cut', r"rows\.jsonl:2 is not valid JSON"),
        ('{"content": "x"}', r"rows\.jsonl:2 has no text under 'text', but the keys \['content'\]"),
        ('{"text": 5}', r"rows\.jsonl:2 has no text under 'text'"),
        ("[1]", r"rows\.jsonl:2 has no text under 'text', but a list"),
        ("\xff", r"rows\.jsonl:2 is not valid JSON"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "fine"}\n' + row.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        list(iter_json_lines(tmp_path / "rows.jsonl", "text"))
