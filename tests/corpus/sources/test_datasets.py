import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from source_files import check, contents, read, write_files

from neox_code.corpus.sources import json_lines, parquet
from neox_code.corpus.sources.find import find_sources
from neox_code.errors import DataError

ROWS = [
    {"repo_name": "a/one", "path": "src/x.py", "content": "x = 'café'\n", "license": "mit", "stars": 12, "lang": "python"},
    {"repo_name": "a/one", "path": "/../y.c", "content": "int y;\r\n", "license": "mit", "stars": 12, "lang": "c"},
    {"repo_name": "b/two", "path": "z.txt", "content": "text", "license": None, "stars": None, "lang": "Text"},
    {"repo_name": "b/two", "path": "w.py", "content": "", "license": "Apache-2.0", "stars": 0, "lang": "Python"},
]
EXPECTED = [
    ("a/one", "Python", 12, "mit", "src/x.py", None, "x = 'café'\n".encode()),
    ("a/one", "C", 12, "mit", "y.c", None, b"int y;\r\n"),
    ("b/two", "Text", None, None, "z.txt", "other", None),
    ("b/two", "Python", 0, "Apache-2.0", "w.py", None, b""),
]
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


def json_lines_of(rows: list, suffix: str = "") -> bytes:
    return PACK[suffix]("".join(json.dumps(row) + "\n" for row in rows).encode())


def described(*sources: Path) -> list[tuple]:
    return [
        (file.project.name, file.project.language, file.project.stars, file.project.license, file.path, file.reason, file.content)
        for file in read(*sources)
    ]


@pytest.mark.parametrize("suffix", PACK)
def test_rows_of_json_lines_become_files_with_their_metadata(tmp_path, suffix):
    file = tmp_path / f"rows.jsonl{suffix}"
    file.write_bytes(json_lines_of(ROWS, suffix))
    assert described(file) == EXPECTED


@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_rows_become_files_for_any_type_of_text(tmp_path, type):
    table = pa.Table.from_pylist(ROWS)
    text = table.column("content").cast(pa.binary()) if type == pa.binary() else table.column("content").cast(type)
    pq.write_table(table.set_column(2, "content", text), tmp_path / "rows.parquet")
    assert described(tmp_path / "rows.parquet") == EXPECTED


def test_a_dataset_of_the_datasets_library_is_read_with_equal_rows(tmp_path):
    written = datasets.Dataset.from_list(ROWS)
    written.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    written.to_json(tmp_path / "rows.jsonl")
    assert described(tmp_path / "train-00000-of-00001.parquet") == described(tmp_path / "rows.jsonl") == EXPECTED


SPELLINGS = [
    {"text": "x", "repository": "r/p", "path": "a.py", "license": "MIT", "stars": 3, "language": "Python", "commit": "c0"},
    {
        "content": "x",
        "max_stars_repo_name": "r/p",
        "max_stars_repo_path": "a.py",
        "max_stars_repo_licenses": ["MIT"],
        "max_stars_count": 3.0,
        "lang": "Python",
        "max_stars_repo_head_hexsha": "c0",
    },
    {
        "content": "x",
        "repo_name": "r/p",
        "path": "a.py",
        "detected_licenses": ["MIT"],
        "star_events_count": 3,
        "language": "Python",
        "revision_id": "c0",
    },
    {
        "whole_func_string": "x",
        "repository_name": "r/p",
        "func_path_in_repository": "a.py",
        "license": "MIT",
        "stars": 3,
        "language": "python",
        "commit": "c0",
    },
    {
        "text": "x",
        "meta": {"repo_name": "r/p", "file_name": "a.py", "license": "MIT", "stars": "3", "repo_language": "py", "commit": "c0"},
    },
]


@pytest.mark.parametrize("row", SPELLINGS)
def test_columns_are_found_by_their_known_spellings(tmp_path, row):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    ((file),) = read(tmp_path / "rows.jsonl")
    project = file.project
    assert (project.name, file.path, project.license, project.stars, project.language) == ("r/p", "a.py", "MIT", 3, "Python")
    assert project.commit == "c0"
    if "meta" not in row:
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
        assert read(tmp_path / "rows.parquet") == [file]


def test_rows_without_a_path_are_named_by_place_and_language(tmp_path):
    rows = [{"code": "x = 1", "language": "Python"}, {"code": "y = 2", "language": "Python"}]
    (tmp_path / "a.jsonl").write_bytes(json_lines_of(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=1)
    assert contents(tmp_path / "a.jsonl") == {"a/a/000000000000.py": b"x = 1", "a/a/000000000040.py": b"y = 2"}
    assert contents(tmp_path / "b.parquet") == {"b/b/000000000.py": b"x = 1", "b/b/000000001.py": b"y = 2"}


def test_slices_of_a_file_hold_every_row_once(tmp_path, monkeypatch):
    rows = [{"text": "x" * (number * 37 % 211), "path": f"{number:03d}.py"} for number in range(300)]
    (tmp_path / "rows.jsonl").write_bytes(json_lines_of(rows))
    whole = read(tmp_path / "rows.jsonl")
    assert [file.path for file in whole] == [row["path"] for row in rows]
    (source,) = find_sources([tmp_path / "rows.jsonl"])
    for size in (1, 2, 50, 333, 5000):
        monkeypatch.setattr(json_lines, "BATCH_BYTES", size)
        batches = list(source.batches(check))
        assert sum(batch.num_bytes for batch in batches) == (tmp_path / "rows.jsonl").stat().st_size
        assert [file for batch in batches for file, _ in batch.read()] == whole


def test_row_groups_are_batches_of_about_the_same_size(tmp_path):
    rows = [{"text": f"{number:06d}" * 20_000, "path": f"{number:03d}.py"} for number in range(200)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=10, use_dictionary=False)
    (source,) = find_sources([tmp_path / "rows.parquet"])
    batches = list(source.batches(check))
    assert 2 <= len(batches) <= 4
    found = [(file.path, file.content, done) for batch in batches for file, done in batch.read()]
    assert [(path, content.decode()) for path, content, _ in found] == [(row["path"], row["text"]) for row in rows]


def test_a_folder_of_shards_is_one_dataset(tmp_path):
    for folder, name in (("hub", "data/train-1.parquet"), ("hub", "data/train-0.parquet"), ("hub", "data/test-0.parquet")):
        (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{"text": name, "path": "a.py"}]), tmp_path / folder / name)
    write_files(tmp_path / "hub", "README.md", ".gitattributes", "dataset_infos.json")
    assert [file.content for file in read(tmp_path / "hub")] == [
        b"data/test-0.parquet",
        b"data/train-0.parquet",
        b"data/train-1.parquet",
    ]
    assert {file.project.name for file in read(tmp_path / "hub")} == {"hub"}
    (tmp_path / "lines").mkdir()
    for name in ("1.jsonl.zst", "0.jsonl.zst"):
        (tmp_path / "lines" / name).write_bytes(json_lines_of([{"text": name, "path": "a.py"}], ".zst"))
    assert [file.content for file in read(tmp_path / "lines")] == [b"0.jsonl.zst", b"1.jsonl.zst"]
    write_files(tmp_path / "hub", "tool.py")
    assert "hub/tool.py" in contents(tmp_path / "hub")


def test_a_dataset_of_spark_is_read_and_pipes_do_not_block(tmp_path):
    folder = tmp_path / "code" / "rows.parquet"
    folder.mkdir(parents=True)
    for number in range(2):
        row = {"text": str(number), "path": "a.py"}
        pq.write_table(pa.Table.from_pylist([row]), folder / f"part-{number}.snappy.parquet")
    write_files(folder, "_SUCCESS", ".part-0.snappy.parquet.crc")
    os.mkfifo(folder / "pipe.parquet")
    (folder / "lost.parquet").symlink_to("nowhere")
    for source in (folder, folder.parent):
        lost, *files = read(source)
        assert [file.content for file in files] == [b"0", b"1"]
        assert lost.reason.startswith("lost.parquet is damaged")


def test_the_documents_of_a_corpus_are_read_as_a_source(tmp_path):
    for name in ("train/shard-00000.parquet", "valid/shard-00000.parquet"):
        (tmp_path / name).parent.mkdir()
        pq.write_table(pa.Table.from_pylist([{"text": name, "repository": "r/p", "path": "a.py"}]), tmp_path / name)
    pq.write_table(pa.Table.from_pylist([{"repository": "r/p", "path": "b.py"}]), tmp_path / "manifest.parquet")
    write_files(tmp_path, "corpus.json", "index.tsv")
    assert [(file.project.name, file.content) for file in read(tmp_path)] == [
        ("r/p", b"train/shard-00000.parquet"),
        ("r/p", b"valid/shard-00000.parquet"),
    ]


# Datasets that are not what they seem


def test_rows_that_cannot_be_read_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "LARGEST_ROW", 1000)
    monkeypatch.setattr(json_lines, "LARGE_ROW", "large")
    lines = [
        b'\xef\xbb\xbf{"text": "x", "path": "a.py"}',
        b"{broken",
        b"",
        b"[1]",
        b'{"text": null, "path": "b.py"}',
        b'{"text": ' + b" " * 2_000_000 + b'"", "path": "long.py"}',
        b'{"text": "\\ud800", "path": "c.py"}',
        b'{"text": "y", "path": "d.py", "repository": 7, "stars": "many", "license": {"a": 1}, "language": ["x"]}',
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    found = [(file.path, file.reason or file.content) for file in read(tmp_path / "rows.jsonl")]
    assert found[0] == ("a.py", b"x")
    assert [reason for _, reason in found[1:-1]] == ["damaged row", "damaged row", "no text", "large", "damaged row"]
    assert found[-1] == ("d.py", b"y")


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_rows_before_the_end_of_a_truncated_compressed_file_are_kept(tmp_path, suffix):
    rows = [{"text": json.dumps(list(range(number, number + 100))), "path": f"{number}.py"} for number in range(3000)]
    packed = json_lines_of(rows, suffix)
    (tmp_path / f"rows.jsonl{suffix}").write_bytes(packed[: len(packed) * 2 // 3])
    *good, damage = read(tmp_path / f"rows.jsonl{suffix}")
    assert [file.path for file in good] == [row["path"] for row in rows[: len(good)]]
    assert damage.path == ""
    assert damage.reason == f"rows.jsonl{suffix} is damaged after {len(good):,} rows: it breaks off"


def test_damaged_and_foreign_parquet_files_are_counted(tmp_path):
    table = pa.Table.from_pylist([{"text": str(number) * 1000, "path": f"{number}.py"} for number in range(1000)])
    for name in ("cut", "bad", "good"):
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="zstd")
    content = bytearray((tmp_path / "bad.parquet").read_bytes())
    content[100:400] = bytes(300)
    (tmp_path / "bad.parquet").write_bytes(content)
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.parquet").touch()
    pq.write_table(pa.table({"numbers": [1, 2]}), tmp_path / "foreign.parquet")
    for name in ("bad", "cut", "empty"):
        damage = read(tmp_path / f"{name}.parquet")[-1]
        assert damage.path == ""
        assert damage.reason.startswith(f"{name}.parquet is damaged")
    assert contents(tmp_path / "foreign.parquet") == {"foreign/": "no text column: foreign.parquet, which has numbers"}
    assert len(read(tmp_path)) == 1004


def test_parquet_decompression_bombs_are_not_read(tmp_path):
    """A bomb: 30 kB that are one text of a gigabyte, or here a smaller one."""
    row = {"text": "x" * 2**25, "path": "a.py"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 10_000
    assert contents(tmp_path / "bomb.parquet") == {
        "bomb/": "bomb.parquet is damaged after 0 rows: it expands to more than 200 times its size"
    }


@pytest.mark.parametrize("type", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_many_parquet_rows_with_one_text_are_read_up_to_the_limit(tmp_path, monkeypatch, type):
    monkeypatch.setattr(parquet, "EXPANSION_ALLOWED", 10_500_000)
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array(["x" * 1_000_000])).cast(type)
    pq.write_table(pa.table({"text": texts, "path": [f"{number}.py" for number in range(200)]}), tmp_path / "bomb.parquet")
    *files, damage = read(tmp_path / "bomb.parquet")
    assert [(file.path, len(file.content)) for file in files] == [(f"{number}.py", 1_000_000) for number in range(10)]
    assert damage.reason == "bomb.parquet is damaged after 10 rows: it expands to more than 200 times its size"


def test_large_parquet_rows_are_read_in_small_batches_up_to_a_limit(tmp_path, monkeypatch):
    rows = [{"text": os.urandom(500_000), "path": f"{number}.py"} for number in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    monkeypatch.setattr(parquet, "BYTES_AT_ONCE", 2_000_000)
    asked = []
    whole = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *args, **more: asked.append(args[1]) or whole(*args, **more))
    assert [file.content for file in read(tmp_path / "rows.parquet")] == [row["text"] for row in rows]
    assert asked == [3]
    monkeypatch.setattr(parquet, "LARGEST_ROW", 400_000)
    assert contents(tmp_path / "rows.parquet") == {
        "rows/": "rows.parquet is damaged after 0 rows: its rows have more than 400,000 bytes"
    }


def test_progress_ends_at_the_announced_amount(tmp_path):
    rows = [{"text": "x" * number, "path": f"{number}.py"} for number in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for suffix in PACK:
        (tmp_path / f"rows{suffix}.jsonl{suffix}").write_bytes(json_lines_of(rows, suffix))
    for source in find_sources(sorted(tmp_path.iterdir())):
        for batch in source.batches(check):
            steps = [done for _, done in batch.read()]
            assert steps == sorted(steps)
            assert steps[-1] == batch.num_bytes


def test_the_layouts_of_public_datasets_are_datasets_at_any_depth(tmp_path):
    table = pa.Table.from_pylist([{"content": "x = 1\n", "max_stars_repo_path": "a.py", "max_stars_repo_name": "o/r"}])
    for language in ("python", "c-sharp"):
        (tmp_path / "stack/data" / language).mkdir(parents=True)
        pq.write_table(table, tmp_path / "stack/data" / language / "train-00000-of-00001.parquet")
    for name in ("README.md", ".gitattributes", "logo.png", "checksums.sha256"):
        (tmp_path / "stack" / name).write_text("x")
    (tmp_path / "stack/stack.py").write_text("import datasets\nclass Stack(datasets.GeneratorBasedBuilder): ...\n")
    assert [file.path for file in read(tmp_path / "stack")] == ["a.py", "a.py"]
    (tmp_path / "stack/tool.py").write_text("x = 1\n")
    assert {file.path for file in read(tmp_path / "stack") if file.reason is None} == {"stack.py", "tool.py"}
    (tmp_path / "codeparrot").mkdir()
    (tmp_path / "codeparrot/file-000000000001.json.gz").write_bytes(json_lines_of(ROWS, ".gz"))
    (tmp_path / "codeparrot/dataset_infos.json").write_text('{"default": {"features": {}}}')
    assert described(tmp_path / "codeparrot") == EXPECTED


@pytest.mark.parametrize("suffix", PACK)
def test_a_json_list_of_rows_is_read_as_its_rows(tmp_path, suffix):
    rows = [*ROWS, {"path": "nested.py", "text": '[{"a": "\\"]}"}]', "meta": {"list": [1, [2, {}]]}}]
    for indent in (None, 2):
        (tmp_path / f"rows.json{suffix}").write_bytes(PACK[suffix](json.dumps(rows, indent=indent).encode()))
        assert described(tmp_path / f"rows.json{suffix}")[:4] == EXPECTED
        assert read(tmp_path / f"rows.json{suffix}")[4].content == rows[4]["text"].encode()
    (tmp_path / "broken.json").write_bytes(json.dumps(rows).encode()[:-9])
    assert described(tmp_path / "broken.json")[:4] == EXPECTED
    assert "its JSON list does not end" in read(tmp_path / "broken.json")[4].reason


def test_metadata_of_starcoderdata_becomes_columns(tmp_path):
    rows = [
        {"content": "<reponame>o/r<filename>src/a.py<gh_stars>10-100\nx = 1\n"},
        {"content": "<filename>b.py\n<reponame>y", "max_stars_repo_name": "own/name"},
        {"content": "x = '<reponame>'\n", "path": "c.py"},
    ]
    (tmp_path / "rows.jsonl").write_bytes(json_lines_of(rows))
    found = [(file.project.name, file.project.stars, file.path, file.content, file.edits) for file in read(tmp_path / "rows.jsonl")]
    assert found == [
        ("o/r", 10, "src/a.py", b"x = 1\n", ("metadata at the start removed",)),
        ("own/name", None, "b.py", b"<reponame>y", ("metadata at the start removed",)),
        ("rows", None, "c.py", b"x = '<reponame>'\n", ()),
    ]


def test_rows_without_path_and_language_get_the_language_of_option_or_folder(tmp_path):
    (tmp_path / "python").mkdir()
    (tmp_path / "python/rows.jsonl").write_bytes(json_lines_of([{"text": "x = 1\n"}]))
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "python/rows.parquet")
    for path in ("python/rows.jsonl", "python/rows.parquet"):
        assert [file.project.language for file in read(tmp_path / path)] == ["Python"]
        assert [(file.project.language, file.path[-2:]) for file in read(tmp_path / path, language="C")] == [("C", ".c")]


def test_output_of_save_to_disk_is_refused_with_the_remedy(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"form of save_to_disk.*to_parquet"):
        find_sources([tmp_path / "saved"])
    (tmp_path / "saved" / "state.json").unlink()  # as in the library's cache
    with pytest.raises(DataError, match=r"form of save_to_disk or of a cache.*to_parquet"):
        find_sources([tmp_path / "saved"])


def test_a_shard_that_git_lfs_did_not_fetch_is_named(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for name in ("a.parquet", "a.jsonl"):
        (tmp_path / name).write_bytes(pointer)
        assert [file.reason for file in read(tmp_path / name)] == ["Git LFS pointer"]
