import gzip
import json
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from neox_code.corpus.sources import parquet
from neox_code.corpus.tokens import input_slices
from neox_code.corpus.tokens.input_slices import Rejected, Text, make_rejection_error, slice_input
from neox_code.errors import ConfigError, DataError

TEXTS = ["a\r\n\u2028b\x85", "", "<|endoftext|>\0", *(f"line {number}\n" * number for number in range(1, 60))]


@pytest.fixture(autouse=True)
def use_small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_slices, "SLICE_BYTES", 1000)


def read_all_texts(path: Path, key: str = "text") -> list[Text]:
    """Return all texts. Raise the error of the first text that cannot be read."""
    texts = []
    for input_slice in slice_input(path, key):
        for text in pickle.loads(pickle.dumps(input_slice)).read_texts():
            if isinstance(text, Rejected):
                raise make_rejection_error(text)
            texts.append(text)
    return texts


def write_rows(path: Path, texts: list[str]) -> Path:
    path.write_text("\n\n".join(json.dumps({"text": text, "code": text.upper()}) for text in texts), encoding="utf-8", newline="")
    return path


def test_each_row_is_read_once_and_its_text_is_unchanged(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", TEXTS)
    slices = slice_input(path)
    assert len(slices) > 10
    assert sum(input_slice.num_bytes for input_slice in slices) == path.stat().st_size
    assert [text.text for text in read_all_texts(path)] == TEXTS
    assert [text.text for text in read_all_texts(path, "code")] == [text.upper() for text in TEXTS]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_rows_are_read_from_a_file_of_any_name(tmp_path: Path, compress) -> None:
    plain = write_rows(tmp_path / "rows.jsonl", TEXTS)
    (tmp_path / "packed").write_bytes(compress(plain.read_bytes()))
    assert [text.text for text in read_all_texts(tmp_path / "packed")] == TEXTS
    assert sum(text.num_bytes for text in read_all_texts(tmp_path / "packed")) <= (tmp_path / "packed").stat().st_size
    (tmp_path / "packed").write_bytes(compress(plain.read_bytes())[:-100])
    with pytest.raises(DataError, match=r"packed is damaged or truncated"):
        read_all_texts(tmp_path / "packed")


@pytest.mark.parametrize("column", ["text", "content", "code"])
def test_the_text_column_of_parquet_shards_may_have_any_known_name(tmp_path: Path, column: str) -> None:
    table = pa.table({column: TEXTS, "lang": ["python", "Go", *["cpp"] * (len(TEXTS) - 2)]})
    (tmp_path / "data").mkdir()
    pq.write_table(table.slice(0, 30), tmp_path / "data/a.parquet", row_group_size=7)
    pq.write_table(table.slice(30), tmp_path / "data/b.parquet", row_group_size=7)
    texts = read_all_texts(tmp_path / "data")
    assert [text.text for text in texts] == TEXTS
    assert [text.language for text in texts[:3]] == ["Python", "Go", "C++"]
    assert len(slice_input(tmp_path / "data")) > 4
    with pytest.raises(DataError, match=r"a\.parquet has no column nothing\. Its columns:"):
        slice_input(tmp_path / "data", "nothing")


def test_large_rows_are_read_in_small_batches_and_decompression_bombs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BYTES_AT_ONCE", 2**20)
    texts = [os.urandom(100_000).hex() for _ in range(40)]
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"text": texts}), path, write_batch_size=1, data_page_size=100_000, use_dictionary=False)
    begin = pa.total_allocated_bytes()
    held = []
    for text, found in zip(texts, slice_input(path)[0].read_texts(), strict=True):
        assert found.text == text
        held.append(pa.total_allocated_bytes() - begin)
    assert max(held) < path.stat().st_size / 2
    pq.write_table(pa.table({"text": ["x" * 2**25]}), tmp_path / "bomb.parquet", compression="zstd")
    with pytest.raises(DataError, match=r"bomb\.parquet .* expands to more than 200 times its size"):
        read_all_texts(tmp_path / "bomb.parquet")


def test_the_language_is_read_from_the_row_or_detected_from_its_path_and_text(tmp_path: Path) -> None:
    rows = [
        {"text": "x = 1\n", "language": "golang"},
        {"text": "class A { public: int x; };\n", "path": "a/b.h"},
        {"text": "#!/bin/sh\n", "path": "run"},
        {"text": "?"},
        {"text": "?", "lang": "../x\0" + "y" * 300},
        {"text": "?", "meta": {"language": "rust"}},
        {"text": "?", "language": "C", "meta": {"language": "rust"}},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    expected = ["Go", "C++", "Shell", "unknown", ".._x_" + "y" * 59, "Rust", "C"]
    assert [text.language for text in read_all_texts(tmp_path / "rows.jsonl")] == expected


def test_the_language_of_a_file_is_detected_by_name_or_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("class A { public: int x; };\n")
    (tmp_path / "b").write_text("#!/bin/sh\n")
    for by_content, languages in ((False, ["C", "unknown"]), (True, ["C++", "Shell"])):
        texts = [text for input_slice in slice_input(tmp_path, by_content=by_content) for text in input_slice.read_texts()]
        assert [text.language for text in texts] == languages


def test_a_folder_is_read_as_its_regular_files_in_path_order(tmp_path: Path) -> None:
    contents = {f"{number % 3}/{number:02d}.py": text for number, text in enumerate(TEXTS) if text} | {"z": "\ufeffx"}
    for path, text in contents.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(text.encode())
    (tmp_path / "folder/empty").touch()
    (tmp_path / "folder/link").symlink_to(tmp_path / "folder/z")
    assert len(slice_input(tmp_path / "folder")) > 10
    assert [text.text for text in read_all_texts(tmp_path / "folder")] == [contents[path] for path in sorted(contents)]
    with pytest.raises(ConfigError, match="--jsonl-keys code is for JSON Lines"):
        slice_input(tmp_path / "folder", "code")


def test_the_key_of_a_slice_changes_with_its_input(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", TEXTS)
    keys = [input_slice.key for input_slice in slice_input(path)]
    assert keys == [input_slice.key for input_slice in slice_input(path)]
    assert len(set(keys)) == len(keys)
    os.utime(path, (1, 1))
    assert set(keys).isdisjoint(input_slice.key for input_slice in slice_input(path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "cut', r"rows\.jsonl:62 is not valid JSON"),
        ('{"content": "x"}', r"rows\.jsonl:62 has no text under 'text'; found: the keys \['content'\]"),
        ('{"text": "x", "deep": ' + "[" * 100_000 + "]" * 100_000 + "}", r"rows\.jsonl:62 is not valid JSON"),
        ('{"text": 5}', r"rows\.jsonl:62 has no text under 'text'; found: a number"),
        ('{"text": null}', r"rows\.jsonl:62 has no text under 'text'; found: null"),
        ("[1]", r"rows\.jsonl:62 has no text under 'text'; found: an array, not an object"),
        ("\xff", r"rows\.jsonl:62 is not valid JSON"),
    ],
)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_the_error_for_a_bad_row_contains_file_and_line(tmp_path: Path, row: str, message: str, is_compressed: bool) -> None:
    data = "".join(json.dumps({"text": "fine" * 20}) + "\n" for _ in range(61)).encode() + row.encode("latin-1")
    (tmp_path / "rows.jsonl").write_bytes(gzip.compress(data) if is_compressed else data)
    with pytest.raises(DataError, match=message):
        read_all_texts(tmp_path / "rows.jsonl")


def test_nan_and_lone_surrogates_are_accepted_in_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('\ufeff{"text": "x", "score": NaN}\n{"text": "\\ud800"}\n', encoding="utf-8")
    assert [text.text for text in read_all_texts(tmp_path / "rows.jsonl")] == ["x", "\ud800"]


def test_missing_and_damaged_input_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent does not exist"):
        slice_input(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is neither a file nor a folder"):
        slice_input(tmp_path / "pipe")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"bad\.parquet is damaged or not a Parquet file"):
        slice_input(tmp_path / "bad.parquet")


def test_folders_of_shards_are_read_by_row_and_other_folders_by_file(tmp_path: Path) -> None:
    for place in ("shards", "stack/data/c", "mixed"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(2):
            write_rows(tmp_path / place / f"part-{number}.jsonl", ["a", f"b{number}"])
        (tmp_path / place / "README.md").write_text("two shards")
    (tmp_path / "list").mkdir()
    (tmp_path / "list/rows.json").write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=1))
    (tmp_path / "mixed/tool.py").write_text("x = 1\n")
    assert [text.text for text in read_all_texts(tmp_path / "shards")] == ["a", "b0", "a", "b1"]
    assert [text.text for text in read_all_texts(tmp_path / "list")] == ["a", "b"]
    assert [(text.text, text.language) for text in read_all_texts(tmp_path / "stack")] == [
        (text, "C") for text in ("a", "b0", "a", "b1")
    ]
    assert [text.text for text in read_all_texts(tmp_path / "mixed")] == ["two shards", "x = 1\n"]


def test_archives_and_bare_repositories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(DataError, match=r"a\.tar\.gz is an archive\. Build a corpus from it"):
        slice_input(tmp_path / "a.tar.gz")
    for name in ("objects", "refs"):
        (tmp_path / "bare.git" / name).mkdir(parents=True)
    (tmp_path / "bare.git/HEAD").write_text("ref: refs/heads/main\n")
    with pytest.raises(DataError, match=r"bare\.git is a bare git repository"):
        slice_input(tmp_path / "bare.git")


def test_a_parquet_row_with_null_or_invalid_utf8_is_rejected_alone(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"caf\xe9", None, b"better"], pa.binary())
    pq.write_table(pa.table({"text": texts.view(pa.string())}), tmp_path / "rows.parquet")
    found = [text for input_slice in slice_input(tmp_path / "rows.parquet") for text in input_slice.read_texts()]
    assert [text.text for text in found if isinstance(text, Text)] == ["good", "better"]
    assert [(text.place, text.problem) for text in found if isinstance(text, Rejected)] == [
        (f"{tmp_path}/rows.parquet, row 2,", "is not UTF-8: byte 0xE9 at 3 of its text"),
        (f"{tmp_path}/rows.parquet, row 3,", "has no text in the column 'text'; found: null"),
    ]
