import json
import os
import random
import sysconfig

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import check, commit_all, contents, git, make_tar, make_tar_member, make_zip, need_permissions, write_files

from neox_code.corpus.sources.find import find_sources
from neox_code.corpus.sources.json_lines import JsonLinesSource
from neox_code.corpus.sources.repository_list import RepositoryList
from neox_code.errors import DataError


def test_sources_of_the_same_name_are_distinct(tmp_path):
    for parent in ("one", "two"):
        write_files(tmp_path / parent / "code", "p/a.c")
    found = contents(tmp_path / "one" / "code", tmp_path / "two" / "code")
    assert found == {"one/code/p/a.c": b"p/a.c", "two/code/p/a.c": b"p/a.c"}


def test_the_order_of_the_arguments_does_not_matter_and_each_is_read_once(tmp_path):
    arguments = [
        write_files(tmp_path / "b" / "code", "p/a.c"),
        write_files(tmp_path / "a" / "code", "p/b.c"),
        make_tar(tmp_path / "code.tar", (make_tar_member("c.c"), b"x")),
        make_zip(tmp_path / "an.zip", {"d.c": b"x"}),
    ]
    first = contents(*arguments)
    assert first == {
        "an/d.c": b"x",
        "a/code/p/b.c": b"p/b.c",
        "b/code/p/a.c": b"p/a.c",
        f"{tmp_path.name}/code/c.c": b"x",
    }
    for seed in range(5):
        mixed = [*arguments, tmp_path / "a" / ".." / "a" / "code"]
        random.Random(seed).shuffle(mixed)
        assert list(contents(*mixed).items()) == list(first.items())


def test_local_code_reads_installed_packages_apart_from_the_library(tmp_path, monkeypatch):
    write_files(tmp_path / "site-packages", "acme/a.py")
    paths = {"purelib": str(tmp_path / "site-packages"), "platlib": str(tmp_path / "site-packages")}
    standard_library = sysconfig.get_path("stdlib")
    monkeypatch.setattr(sysconfig, "get_path", lambda key: paths.get(key, standard_library))
    library, *packages = find_sources(["local"])
    assert library.languages == {"C", "C++", "JavaScript", "Python"}
    paths = {f"{file.project.name}/{file.path}" for batch in library.batches(lambda *_: "listed") for file, _ in batch.read()}
    assert f"{library.name}/argparse/argparse.py" in paths
    assert f"{library.name}/json/decoder.py" in paths
    assert not any("/site-packages/" in path for path in paths)
    files = [file.project.name for source in packages for batch in source.batches(lambda *_: "listed") for file, _ in batch.read()]
    assert files == ["site-packages/acme"]


def test_a_list_and_a_dataset_are_distinguished_by_their_keys(tmp_path):
    for name, line, kind in (
        ("list.jsonl", b'\n{broken\n{"url": "https://example.invalid/a.git", "name": "x/a"}\n', RepositoryList),
        ("rows.jsonl", b'{"url": "https://example.invalid/a.py", "text": "x"}\n', JsonLinesSource),
        ("code.json", b'{"content": "x"}\n', JsonLinesSource),
        ("empty.jsonl", b"", JsonLinesSource),
    ):
        (tmp_path / name).write_bytes(line)
        (source,) = find_sources([tmp_path / name])
        assert type(source) is kind
    assert contents(tmp_path / "empty.jsonl") == {}


def test_a_git_repository_is_read_as_one_unless_another_layout_is_given(tmp_path):
    root = write_files(tmp_path / "root", "one/a.c", "two/b.c")
    commit_all(root)
    assert contents(root) == contents(root, layout="repository") == {"root/one/a.c": b"one/a.c", "root/two/b.c": b"two/b.c"}
    found = contents(root, layout="organization/project")
    assert found == {"root/.git": "git's own folder", "one/a.c": b"one/a.c", "two/b.c": b"two/b.c"}


def test_an_invalid_source_is_named_in_the_error(tmp_path):
    (tmp_path / "text").write_text("no archive")
    os.mkfifo(tmp_path / "pipe")
    for name in ("text", "pipe"):
        with pytest.raises(DataError, match=rf"{name} is neither a folder, a tar or zip archive, a Parquet or JSON Lines dataset"):
            find_sources([str(tmp_path / name)])
    with pytest.raises(DataError, match=r"nowhere does not exist\. Name a folder, a git repository, .* or 'local'"):
        find_sources([str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="the user does not exist"):
        find_sources(["~nobody-has-this-name/code"])
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"loop (is a link to itself|does not exist)\. (Correct|Name)"):
        find_sources([tmp_path / "loop"])


def test_a_source_without_permission_is_named(tmp_path):
    need_permissions(tmp_path)
    make_tar(tmp_path / "code.tar", (make_tar_member("a.py"), b"x")).chmod(0)
    with pytest.raises(DataError, match=r"code\.tar cannot be read: Permission denied\. Check its permissions\."):
        find_sources([tmp_path / "code.tar"])


def test_batches_are_the_same_every_time(tmp_path):
    write_files(tmp_path / "code", *(f"p{number}/{number}.py" for number in range(50)))
    (source,) = find_sources([tmp_path / "code"])
    assert list(source.batches(check)) == list(source.batches(check))


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError])
def test_an_error_in_the_check_is_not_reported_as_a_damaged_source(tmp_path, error):
    def mistaken(*_: object) -> str | None:
        raise error("a mistake")

    rows = [{"text": "x", "path": "a.py"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    make_tar(tmp_path / "code.tar", (make_tar_member("a.py"), b"x"))
    make_zip(tmp_path / "code.zip", {"a.py": b"x"})
    for path in sorted(tmp_path.iterdir()):
        (source,) = find_sources([path])
        with pytest.raises(error, match="a mistake"):
            [list(batch.read()) for batch in source.batches(mistaken)]


def test_equal_names_are_made_unique_by_origin_or_by_the_folders_above(tmp_path):
    for place, origin in (("a/repo", "git@example.org:acme/tool.git"), ("b/repo", "https://example.org/zeta/tool"), ("c/repo", "")):
        repository = write_files(tmp_path / place, "x.c")
        commit_all(repository)
        if origin:
            git(repository, "remote", "add", "origin", origin)
    git(tmp_path, "clone", "-q", "--bare", tmp_path / "c/repo", tmp_path / "d/repo.git")
    found = contents(*(tmp_path / place for place in ("a/repo", "b/repo", "c/repo", "d/repo.git")))
    assert sorted(found) == ["acme/tool/x.c", "c/repo/x.c", "d/repo/x.c", "zeta/tool/x.c"]


@pytest.mark.parametrize("layout", [None, "project", "organization/project"])
def test_a_bare_repository_is_read_by_git_in_any_layout(tmp_path, layout):
    commit_all(write_files(tmp_path / "work", "one/a.c"))
    git(tmp_path, "clone", "-q", "--bare", tmp_path / "work", tmp_path / "bare.git")
    assert contents(tmp_path / "bare.git", layout=layout) == {"bare/one/a.c": b"one/a.c"}


def test_a_folder_of_archives_is_read_as_the_archives(tmp_path):
    (tmp_path / "downloads/more").mkdir(parents=True)
    make_tar(tmp_path / "downloads/acme__one.tar.gz", (make_tar_member("a.c"), b"x"), mode="w:gz")
    make_zip(tmp_path / "downloads/more/two.zip", {"b.py": b"y"})
    (tmp_path / "downloads/README.md").write_text("from example.org")
    assert contents(tmp_path / "downloads") == {"acme/one/a.c": b"x", "two/b.py": b"y"}
