import os
import subprocess
from pathlib import Path

import pytest
from source_files import check, commit_all, contents, git, need_permissions, read, under, write_files

from neox_code.corpus.sources import folder as folder_module
from neox_code.corpus.sources.folder import FolderSource, read_sorted_entries


@pytest.fixture(scope="module")
def expected(tree: Path) -> dict[str, bytes | str]:
    """The tree as `os.walk` and `open` see it."""
    files = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder) / name
            content = path.read_bytes()
            files[str(path.relative_to(tree))] = check(None, name, len(content)) or content
    return files


def test_all_files_of_a_folder_are_read_and_its_first_level_folders_are_projects(tree, expected):
    found = contents(tree, layout="project")
    moved = {path if "/" in path else f"{Path(path).stem}/{path}": content for path, content in expected.items()}
    assert found == under("tree", moved)
    assert {file.project.name for file in read(tree, layout="project")} >= {"tree/monitor", "tree/regexopt", "tree/alpha"}


def test_the_listing_is_depth_first_in_the_order_of_names(tmp_path):
    root = write_files(tmp_path / "root", "p/b/z.py", "p/a.py", "p/b.py", "p/B/x.py", "p/b/a/y.py", "a/c.py", "p/c/b.py")
    files = [f"{file.project.name}/{file.path}" for file in read(root, layout="project")]
    assert files == [f"root/{path}" for path in ("a/c.py", "p/B/x.py", "p/a.py", "p/b/a/y.py", "p/b/z.py", "p/b.py", "p/c/b.py")]


def test_a_folder_of_many_entries_is_sorted_on_disk(tmp_path, monkeypatch):
    write_files(tmp_path, *(f"{number * 7919 % 1000:03d}.py" for number in range(1000)))
    in_memory = list(read_sorted_entries(tmp_path))
    monkeypatch.setattr(folder_module, "ENTRIES_IN_MEMORY", 64)
    monkeypatch.setattr(folder_module, "ENTRIES_AT_ONCE", 10)
    assert list(read_sorted_entries(tmp_path)) == in_memory
    assert [name for name, _, _ in in_memory] == [f"{number:03d}.py" for number in range(1000)]


def test_links_and_special_files_of_a_folder_are_listed_and_not_followed(tmp_path):
    outside = tmp_path / "secret.py"
    outside.write_text("secret")
    root = write_files(tmp_path / "root", "p/real.py", "p/.git/hook.py")
    (root / "p" / "link.py").symlink_to(outside)
    (root / "p" / "loop").symlink_to(root)
    (root / "p" / "broken.py").symlink_to("nowhere")
    os.mkfifo(root / "p" / "pipe.py")
    assert contents(root) == {
        "root/p/link.py": "link",
        "root/p/loop": "link",
        "root/p/broken.py": "link",
        "root/p/pipe.py": "not a regular file",
        "root/p/.git": "git's own folder",
        "root/p/real.py": b"p/real.py",
    }


def test_a_file_that_changed_since_it_was_listed_is_unreadable(tmp_path):
    paths = [tmp_path / "p" / name for name in ("grown.py", "gone.py", "linked.py", "same.py", "shrunk.py")]
    (tmp_path / "p").mkdir()
    for path in paths:
        path.write_text("1234")
    (tmp_path / "p" / "piped.py").touch()
    batches = list(FolderSource("root", tmp_path).batches(check))
    paths[0].write_text("12345")
    paths[1].unlink()
    paths[2].unlink()
    paths[2].symlink_to(paths[3])
    paths[4].write_text("1")
    (tmp_path / "p" / "piped.py").unlink()
    os.mkfifo(tmp_path / "p" / "piped.py")
    found = {file.path: file.reason or file.content for batch in batches for file, _ in batch.read()}
    unreadable = dict.fromkeys(("grown.py", "gone.py", "linked.py", "shrunk.py", "piped.py"), "unreadable")
    assert found == unreadable | {"same.py": b"1234"}


def test_folders_and_files_without_permission_are_unreadable(tmp_path):
    need_permissions(tmp_path)
    root = write_files(tmp_path / "root", "p/closed/a.py", "p/shut.py", "p/open.py")
    (root / "p" / "closed").chmod(0)
    (root / "p" / "shut.py").chmod(0)
    found = contents(root)
    (root / "p" / "closed").chmod(0o700)
    assert found == {"root/p/closed": "unreadable", "root/p/shut.py": "unreadable", "root/p/open.py": b"p/open.py"}


def test_paths_too_long_to_open_are_counted_and_the_rest_is_read(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text("a")
    folder = os.open(tmp_path / "p", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=folder)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("deep.py", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    try:
        found = contents(tmp_path / "p", tmp_path)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "p"], check=True)
    assert list(found.values()).count("unreadable") == 2
    assert list(found.values()).count(b"a") == 2


def test_names_that_are_not_utf8_become_printable(tmp_path):
    (tmp_path / "p").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "p") + b"/caf\xe9.py")).write_text("x")
    (tmp_path / "p" / "two\nlines.py").write_text("y")
    assert contents(tmp_path) == {f"{tmp_path.name}/p/caf\\xe9.py": b"x", f"{tmp_path.name}/p/two\\x0alines.py": b"y"}


def test_the_content_of_an_lfs_pointer_is_not_read(tmp_path):
    root = write_files(tmp_path / "root", "p/a.py")
    (root / "p" / "model.py").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n")
    assert contents(root) == {"root/p/a.py": b"p/a.py", "root/p/model.py": "Git LFS pointer"}


def test_work_trees_have_their_commit_and_bare_repositories_are_read_by_git(tmp_path):
    root = tmp_path / "root"
    commit = commit_all(write_files(root / "org" / "worked", "a.py"))
    packed = commit_all(write_files(root / "org" / "packed", "src/b.py"))
    git(root / "org" / "packed", "pack-refs", "--all")
    git(root, "clone", "-q", "--bare", root / "org" / "packed", root / "org" / "bare.git")
    (root / "org" / "worked" / "a.py").write_text("uncommitted")
    files = [file for file in read(root) if file.content is not None]
    assert [(file.project.name, file.project.commit, file.path, file.content) for file in files] == [
        ("org/bare", packed, "src/b.py", b"src/b.py"),
        ("org/packed", packed, "src/b.py", b"src/b.py"),
        ("org/worked", commit, "a.py", b"uncommitted"),
    ]


def test_a_bare_repository_with_links_out_of_the_source_is_not_read(tmp_path):
    commit_all(write_files(tmp_path / "secret", "a.py"))
    git(tmp_path, "clone", "-q", "--bare", tmp_path / "secret", tmp_path / "root" / "org" / "bare.git")
    assert contents(tmp_path / "root", layout="organization/project") == {"org/bare/a.py": b"a.py"}
    objects = tmp_path / "root" / "org" / "bare.git" / "objects"
    objects.rename(tmp_path / "objects")
    objects.symlink_to(tmp_path / "objects")
    found = contents(tmp_path / "root", layout="organization/project")
    assert found["org/bare.git/objects"] == "link"
    assert b"a.py" not in found.values()


def test_a_head_file_without_a_commit_gives_none(tmp_path):
    root = write_files(tmp_path / "root", "p/a.py", "secret")
    for head in ("ref: refs/../../../secret", "ref: /etc/passwd", "secret", "x" * 10_000):
        (root / "p" / ".git").mkdir(exist_ok=True)
        (root / "p" / ".git" / "HEAD").write_text(head)
        assert {file.project.commit for file in read(root)} == {None}


def test_small_repositories_of_a_folder_are_one_batch(tmp_path):
    commit_all(write_files(tmp_path / "one", "a.py", "b.py"))
    for number in range(10):
        git(tmp_path, "clone", "-q", "--bare", tmp_path / "one", tmp_path / "root" / "org" / f"bare-{number}.git")
    source = FolderSource("root", tmp_path / "root", "organization/project")
    (batch,) = source.batches(check)
    files = [(file.project.name, file.path) for file, _ in batch.read()]
    assert files == [(f"org/bare-{number}", name) for number in range(10) for name in ("a.py", "b.py")]
    assert [done for _, done in batch.read()] == [4 * number for number in range(1, 21)]
