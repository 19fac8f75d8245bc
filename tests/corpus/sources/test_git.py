import os
import shutil
import subprocess
from pathlib import Path

import pytest
from source_files import GIT, check, commit_all, contents, git, read, under, write_files

from neox_code.corpus.sources import git as git_module
from neox_code.corpus.sources.find import find_sources
from neox_code.corpus.sources.git import split_at_nul


def blob_of(repository: Path, path: str) -> Path:
    """The file of a loose object that holds a path's content, or its tree."""
    name = git(repository, "rev-parse", f"HEAD:{path}")
    return repository / ".git" / "objects" / name[:2] / name[2:]


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_bare_and_other_git_repositories_have_the_files_of_the_folder(tree, tmp_path, object_format):
    shutil.copytree(tree, tmp_path / "code")
    expected = contents(tmp_path / "code", layout="repository")
    commit = commit_all(tmp_path / "code", object_format)
    (tmp_path / "code" / "uncommitted.py").write_text("x = 1\n")
    git(tmp_path, "clone", "-q", "--bare", tmp_path / "code", tmp_path / "bare.git")
    assert contents(tmp_path / "code") == expected
    assert contents(tmp_path / "bare.git") == under(
        "bare", {path.removeprefix("code/"): content for path, content in expected.items()}
    )
    assert {file.project.commit for file in read(tmp_path / "code", tmp_path / "bare.git")} == {commit}


def test_a_work_tree_added_to_a_repository_is_read_at_its_own_commit(tmp_path):
    commit_all(write_files(tmp_path / "code", "a.py"))
    git(tmp_path / "code", "worktree", "add", "-q", "-b", "side", tmp_path / "side")
    write_files(tmp_path / "side", "b.py")
    git(tmp_path / "side", "add", "-A")
    git(tmp_path / "side", "commit", "-qm", "side")
    assert contents(tmp_path / "side") == {"side/a.py": b"a.py", "side/b.py": b"b.py"}


def test_links_and_submodules_of_a_repository_are_listed_and_nothing_is_run(tmp_path):
    repository = write_files(tmp_path / "code", "real.py")
    (repository / "link.py").symlink_to("/etc/passwd")
    (repository / ".gitattributes").write_text("*.py filter=evil\n")
    commit = commit_all(repository)
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},sub.py")
    git(repository, "commit", "-qm", "submodule")
    marker = tmp_path / "was-run"
    for key in ("core.fsmonitor", "core.sshCommand", "core.pager", "filter.evil.smudge", "filter.evil.clean", "alias.ls-tree"):
        git(repository, "config", key, f"touch {marker}; true")
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        hook = repository / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
    git(repository, "config", "core.hooksPath", ".git/hooks")
    assert contents(repository) == {
        "code/.gitattributes": "other",
        "code/link.py": "link",
        "code/real.py": b"real.py",
        "code/sub.py": "not a regular file",
    }
    assert not marker.exists()


def test_replacement_objects_are_ignored(tmp_path):
    commit_all(write_files(tmp_path / "code", "a.py", "b.py"))
    git(
        tmp_path / "code",
        "replace",
        git(tmp_path / "code", "rev-parse", "HEAD:a.py"),
        git(tmp_path / "code", "rev-parse", "HEAD:b.py"),
    )
    assert contents(tmp_path / "code")["code/a.py"] == b"a.py"


def test_names_that_are_not_utf8_and_lfs_pointers_are_listed(tmp_path):
    (tmp_path / "code").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "code") + b"/caf\xe9.py")).write_text("x")
    (tmp_path / "code" / "weights.py").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    commit_all(tmp_path / "code")
    assert contents(tmp_path / "code") == {"code/caf\\xe9.py": b"x", "code/weights.py": "Git LFS pointer"}


def test_missing_objects_of_a_partial_clone_are_not_fetched(tmp_path):
    commit_all(write_files(tmp_path / "code", "a.py", "b.py"))
    git(tmp_path / "code", "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--bare", "--filter=blob:none", f"file://{tmp_path}/code", tmp_path / "partial.git")
    assert contents(tmp_path / "partial.git") == {"partial/a.py": "unreadable", "partial/b.py": "unreadable"}


def test_a_blob_that_a_repository_lacks_is_unreadable(tmp_path):
    commit_all(write_files(tmp_path / "code", "a.py", "b.py"))
    blob_of(tmp_path / "code", "a.py").unlink()
    assert contents(tmp_path / "code") == {"code/a.py": "unreadable", "code/b.py": b"b.py"}


@pytest.mark.parametrize("damage", [lambda blob: blob.unlink(), lambda blob: (blob.chmod(0o600), blob.write_bytes(b"junk"))])
def test_a_blob_that_is_lost_or_damaged_after_the_listing_is_unreadable_and_the_rest_is_read(tmp_path, damage):
    commit_all(write_files(tmp_path / "code", "a.py", "b.py", "c.py", "d.py"))
    (source,) = find_sources([tmp_path / "code"])
    batches = list(source.batches(check))
    damage(blob_of(tmp_path / "code", "b.py"))
    damage(blob_of(tmp_path / "code", "d.py"))
    found = {file.path: file.reason or file.content for batch in batches for file, _ in batch.read()}
    assert found == {"a.py": b"a.py", "b.py": "unreadable", "c.py": b"c.py", "d.py": "unreadable"}


def test_only_the_damaged_files_of_a_damaged_pack_are_lost(tmp_path):
    (tmp_path / "code").mkdir()
    files = {name: os.urandom(100_000) for name in ("a.py", "b.py", "c.py")}
    for name, content in files.items():
        (tmp_path / "code" / name).write_bytes(content)
    commit_all(tmp_path / "code")
    git(tmp_path / "code", "gc", "-q")
    (pack,) = (tmp_path / "code" / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[150_000:150_100] = bytes(100)
    pack.write_bytes(content)
    found = contents(tmp_path / "code")
    assert sorted(found.values(), key=str).count("unreadable") == 1
    assert all(found[f"code/{name}"] in (content, "unreadable") for name, content in files.items())
    assert contents(tmp_path / "code") == found


def test_a_missing_folder_of_the_commit_is_reported(tmp_path):
    commit_all(write_files(tmp_path / "code", "a.py", "folder/b.py"))
    blob_of(tmp_path / "code", "folder").unlink()
    assert contents(tmp_path / "code") == {
        "code/a.py": b"a.py",
        "code/": "git repository is damaged: a folder of its HEAD cannot be read",
    }


def test_a_repository_with_too_many_files_is_listed_up_to_the_limit(tmp_path, monkeypatch):
    """A bomb: ten folders that each are the same folder of ten folders, and so on, of 10**10 files."""
    bomb = tmp_path / "bomb.git"
    git(tmp_path, "init", "-q", "--bare", bomb)
    (tmp_path / "a.py").write_text("x = 1\n")
    kind, name, suffix = "100644 blob", git(bomb, "hash-object", "-w", tmp_path / "a.py"), ".py"
    for _ in range(10):
        (tmp_path / "tree").write_text("".join(f"{kind} {name}\t{number}{suffix}\n" for number in range(10)))
        with (tmp_path / "tree").open() as entries:
            name = subprocess.run(
                [*GIT, "-C", bomb, "mktree"], stdin=entries, capture_output=True, text=True, check=True
            ).stdout.strip()
        kind, suffix = "040000 tree", ""
    git(bomb, "update-ref", "HEAD", git(bomb, "commit-tree", "-m", "bomb", name))
    monkeypatch.setattr(git_module, "LARGEST_LISTING", 100_000)
    *files, last = read(bomb)
    assert (last.path, last.reason) == ("", git_module.TOO_MANY_FILES)
    assert 1000 < len(files) < 2000
    assert {file.content for file in files} == {b"x = 1\n"}
    assert [file.path for file in files[:11]] == [f"{'0/' * 9}{number}.py" for number in range(10)] + ["0/" * 8 + "1/0.py"]


def test_a_repository_without_a_commit_is_reported(tmp_path):
    git(tmp_path, "init", "-q", "code")
    assert contents(tmp_path / "code") == {"code/": "git repository cannot be read: it has no commit at HEAD"}


def test_a_broken_repository_is_not_read_as_the_enclosing_one(tmp_path):
    commit_all(write_files(tmp_path / "outer", "a.py"))
    (tmp_path / "outer" / "inner" / ".git").mkdir(parents=True)
    (reason,) = contents(tmp_path / "outer" / "inner").values()
    assert reason.startswith("git repository cannot be read: not a git repository")


def test_the_listing_is_streamed():
    class Endless:
        def read(self, _: int) -> bytes:
            return b"name\0" * 1000

    names = split_at_nul(Endless())
    assert [next(names) for _ in range(5000)] == [b"name"] * 5000
