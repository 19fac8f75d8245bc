import io
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from neox_code.corpus.extract import FolderSource, TarSource, ZipSource, find_sources
from neox_code.errors import DataError

GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
LIMIT = 2_000_000


def judge(path: str, num_bytes: int) -> str | None:
    if not path.endswith((".py", ".c", ".h")):
        return "other"
    return None if num_bytes <= LIMIT else "large"


def read(*sources: Path | str) -> list:
    return [file for source in find_sources(list(map(str, sources))) for batch in source.batches(judge) for file, _ in batch.read()]


def contents(*sources: Path | str) -> dict[str, bytes | str | None]:
    """Path below the sources -> content, or the reason why there is none."""
    return {f"{file.project}/{file.path}": file.content if file.reason is None else file.reason for file in read(*sources)}


def git(folder: Path, *arguments: str | Path) -> str:
    return subprocess.run([*GIT, "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")


def blob_of(repository: Path, path: str) -> Path:
    """The file of a loose object that holds a path's content."""
    name = git(repository, "rev-parse", f"HEAD:{path}")
    return repository / ".git" / "objects" / name[:2] / name[2:]


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    return member


@pytest.fixture(scope="module")
def expected(tree: Path) -> dict[str, bytes | str]:
    """The tree as `os.walk` and `open` see it."""
    files = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder) / name
            content = path.read_bytes()
            files[str(path.relative_to(tree))] = judge(name, len(content)) or content
    return files


def under(name: str, files: dict) -> dict:
    return {f"{name}/{path}": content for path, content in files.items()}


def test_a_folder_is_read_whole_and_its_first_level_folders_are_projects(tree, expected):
    found = {f"{file.project}/{file.path}": file.reason or file.content for file in read(tree)}
    moved = {path if "/" in path else f"{Path(path).stem}/{path}": content for path, content in expected.items()}
    assert found == under("tree", moved)
    assert {file.project for file in read(tree)} >= {"tree/json", "tree/bisect", "tree/alpha"}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_an_archive_of_any_kind_holds_the_same_as_the_folder(tree, expected, tmp_path, suffix):
    kind = {"tar": "tar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar", "zip": "zip"}[suffix]
    archive = shutil.make_archive(str(tmp_path / "code"), kind, tree)
    assert archive.endswith(suffix)
    assert contents(archive) == under("code", expected)


def test_a_git_repository_holds_the_same_as_the_folder_bare_or_not(tree, expected, tmp_path):
    shutil.copytree(tree, tmp_path / "code")
    commit_all(tmp_path / "code")
    (tmp_path / "code" / "uncommitted.py").write_text("x = 1\n")
    git(tmp_path, "clone", "-q", "--bare", tmp_path / "code", tmp_path / "bare.git")
    assert contents(tmp_path / "code") == under("code", expected)
    assert contents(tmp_path / "bare.git") == under("bare", expected)
    (source,) = find_sources([tmp_path / "code"])
    assert {batch.commit for batch in source.batches(judge)} == {git(tmp_path / "code", "rev-parse", "HEAD")}


def test_sources_of_the_same_name_stay_apart(tmp_path):
    for parent in ("one", "two"):
        (tmp_path / parent / "code" / "p").mkdir(parents=True)
        (tmp_path / parent / "code" / "p" / "a.c").write_text(parent)
    found = contents(tmp_path / "one" / "code", tmp_path / "two" / "code")
    assert found == {"code/p/a.c": b"one", "code-2/p/a.c": b"two"}


def test_this_machines_own_code_leaves_the_packages_out_of_the_library():
    library, *packages = find_sources(["local"])
    assert library.languages == {"C", "C++", "JavaScript", "Python"}
    paths = {f"{file.project}/{file.path}" for batch in library.batches(judge) for file, _ in batch.files}
    assert f"{library.name}/argparse/argparse.py" in paths
    assert f"{library.name}/json/decoder.py" in paths
    assert not any("/site-packages/" in path for path in paths)
    files = [file.project for source in packages for batch in source.batches(judge) for file, _ in batch.files]
    assert any(project.endswith("/pygments") for project in files)


# Folders that are not what they seem


def test_links_and_special_files_of_a_folder_are_listed_and_not_followed(tmp_path):
    outside = tmp_path / "secret.py"
    outside.write_text("secret")
    root = tmp_path / "root"
    (root / "p").mkdir(parents=True)
    (root / "p" / "link.py").symlink_to(outside)
    (root / "p" / "loop").symlink_to(root)
    (root / "p" / "broken.py").symlink_to("nowhere")
    os.mkfifo(root / "p" / "pipe.py")
    (root / "p" / ".git").mkdir()
    (root / "p" / ".git" / "hook.py").write_text("no source of the project")
    (root / "p" / "real.py").write_text("real")
    assert contents(root) == {
        "root/p/link.py": "link",
        "root/p/loop": "link",
        "root/p/broken.py": "link",
        "root/p/pipe.py": "not a regular file",
        "root/p/.git": "git's own folder",
        "root/p/real.py": b"real",
    }


def test_a_file_that_changed_since_it_was_listed_is_unreadable(tmp_path):
    paths = [tmp_path / "p" / name for name in ("grown.py", "gone.py", "linked.py", "same.py")]
    (tmp_path / "p").mkdir()
    for path in paths:
        path.write_text("1234")
    batches = list(FolderSource("root", tmp_path).batches(judge))
    paths[0].write_text("12345")
    paths[1].unlink()
    paths[2].unlink()
    paths[2].symlink_to(paths[3])
    found = {file.path: file.reason or file.content for batch in batches for file, _ in batch.read()}
    assert found == {"grown.py": "unreadable", "gone.py": "unreadable", "linked.py": "unreadable", "same.py": b"1234"}


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


def test_names_that_are_not_utf8_are_read_and_printable(tmp_path):
    (tmp_path / "p").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "p") + b"/caf\xe9.py")).write_text("x")
    assert contents(tmp_path) == {f"{tmp_path.name}/p/caf\\xe9.py": b"x"}


# Git repositories that are not what they seem


def test_links_and_submodules_of_a_repository_are_listed_and_nothing_is_run(tmp_path):
    repository = tmp_path / "code"
    repository.mkdir()
    (repository / "link.py").symlink_to("/etc/passwd")
    (repository / "real.py").write_text("real")
    (repository / ".gitattributes").write_text("*.py filter=evil\n")
    commit_all(repository)
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{git(repository, 'rev-parse', 'HEAD')},sub.py")
    git(repository, "commit", "-qm", "submodule")
    marker = tmp_path / "was-run"
    for key in ("core.fsmonitor", "core.sshCommand", "core.pager", "filter.evil.smudge", "filter.evil.clean", "alias.ls-tree"):
        git(repository, "config", key, f"touch {marker}; true")
    assert contents(repository) == {
        "code/.gitattributes": "other",
        "code/link.py": "link",
        "code/real.py": b"real",
        "code/sub.py": "not a regular file",
    }
    assert not marker.exists()


def test_a_blob_that_a_repository_lacks_is_unreadable(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("lost")
    (tmp_path / "code" / "b.py").write_text("here")
    commit_all(tmp_path / "code")
    blob_of(tmp_path / "code", "a.py").unlink()
    assert contents(tmp_path / "code") == {"code/a.py": "unreadable", "code/b.py": b"here"}


def test_a_blob_that_is_lost_after_the_listing_is_unreadable(tmp_path):
    (tmp_path / "code").mkdir()
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / "code" / name).write_text(name)
    commit_all(tmp_path / "code")
    (source,) = find_sources([tmp_path / "code"])
    batches = list(source.batches(judge))
    blob_of(tmp_path / "code", "b.py").unlink()
    found = {file.path: file.reason or file.content for batch in batches for file, _ in batch.read()}
    assert found == {"a.py": b"a.py", "b.py": "unreadable", "c.py": b"c.py"}


def test_a_damaged_pack_is_an_error_that_names_the_repository(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_bytes(os.urandom(100_000))
    commit_all(tmp_path / "code")
    git(tmp_path / "code", "gc", "-q")
    (pack,) = (tmp_path / "code" / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[50_000:50_100] = bytes(100)
    pack.write_bytes(content)
    with pytest.raises(DataError, match=r"git repository .*code is damaged: a file of its HEAD cannot be read\. Clone it again\."):
        contents(tmp_path / "code")


def test_a_repository_without_a_commit_is_an_error(tmp_path):
    git(tmp_path, "init", "-q", "code")
    with pytest.raises(DataError, match=r"git repository .*code cannot be read: it has no commit at HEAD"):
        contents(tmp_path / "code")


def test_a_broken_repository_is_not_taken_for_the_one_around_it(tmp_path):
    (tmp_path / "outer" / "inner" / ".git").mkdir(parents=True)
    (tmp_path / "outer" / "a.py").write_text("x")
    commit_all(tmp_path / "outer")
    with pytest.raises(DataError, match=r"inner cannot be read: fatal: not a git repository"):
        contents(tmp_path / "outer" / "inner")


# Archives that are not what they seem


def test_names_out_of_a_tar_archive_are_only_names(tmp_path):
    archive = tar_of(
        tmp_path / "evil.tar",
        (tar_member("/etc/absolute.py"), b"1"),
        (tar_member("../../up.py"), b"2"),
        (tar_member("a/../b/./c.py"), b"3"),
        (tar_member("folder", tarfile.DIRTYPE), b""),
        (tar_member("soft.py", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (tar_member("hard.py", tarfile.LNKTYPE, "../../up.py"), b""),
        (tar_member("device.py", tarfile.CHRTYPE), b""),
        (tar_member("pipe.py", tarfile.FIFOTYPE), b""),
    )
    before = sorted(tmp_path.rglob("*"))
    assert contents(archive) == {
        "evil/etc/absolute.py": b"1",
        "evil/up.py": b"2",
        "evil/a/b/c.py": b"3",
        "evil/soft.py": "link",
        "evil/hard.py": "link",
        "evil/device.py": "not a regular file",
        "evil/pipe.py": "not a regular file",
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_a_large_member_is_passed_over(tmp_path):
    archive = tar_of(tmp_path / "a.tar", (tar_member("large.py"), bytes(LIMIT + 1)), (tar_member("small.py"), b"x"))
    assert contents(archive) == {"a/large.py": "large", "a/small.py": b"x"}


@pytest.mark.parametrize("kind", ["tar", "gztar", "bztar", "xztar"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_tar_archive_that_breaks_off_is_an_error(tree, tmp_path, kind, share):
    whole = Path(shutil.make_archive(str(tmp_path / "code"), kind, tree))
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content)) // 512 * 512])
    with pytest.raises(DataError, match=r"code\.t.* is (damaged after [\d,]+ members|neither a folder)"):
        contents(whole)


def test_damage_inside_a_tar_archive_is_an_error_and_not_its_end(tmp_path):
    archive = tar_of(tmp_path / "code.tar", *((tar_member(f"{number}.py"), b"x" * 600) for number in range(5)))
    content = bytearray(archive.read_bytes())
    content[2 * 1536 + 20] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"code\.tar is damaged after 2 members: bad checksum"):
        contents(archive)


def test_a_huge_extended_header_is_refused_before_it_is_read(tmp_path):
    header = tar_member("x", tarfile.XHDTYPE)
    header.size = 5 * 2**30
    first = tar_of(tmp_path / "code.tar", (tar_member("a.py"), b"x")).read_bytes()[:1024]
    (tmp_path / "code.tar").write_bytes(first + header.tobuf() + bytes(10_000))
    with pytest.raises(DataError, match=r"an extended header of 5,368,709,120 bytes, expected at most 1,048,576"):
        contents(tmp_path / "code.tar")


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_zip_member_that_lies_about_its_size_is_unreadable(tmp_path):
    """A bomb: 50 MB that claim to be 100 bytes, in the local header and in the central directory."""
    bomb = bytes(50_000_000)
    archive = zip_of(tmp_path / "bomb.zip", {"bomb.py": bomb, "good.py": b"good"})
    content = archive.read_bytes().replace(struct.pack("<L", len(bomb)), struct.pack("<L", 100))
    archive.write_bytes(content)
    assert contents(archive) == {"bomb/bomb.py": "unreadable", "bomb/good.py": b"good"}


def test_damaged_and_encrypted_zip_members_are_unreadable_and_links_are_listed(tmp_path):
    archive = zip_of(tmp_path / "code.zip", {"damaged.py": b"spam " * 100, "locked.py": b"x", "good.py": b"good"})
    with zipfile.ZipFile(archive, "a") as appended:
        link = zipfile.ZipInfo("link.py")
        link.external_attr = 0o120777 << 16
        appended.writestr(link, "/etc/passwd")
    content = bytearray(archive.read_bytes())
    content[40] ^= 0xFF
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = [index for index in range(len(content)) if content[index : index + 4] == signature][1]
        content[start + flags] |= 1
    archive.write_bytes(content)
    assert contents(archive) == {
        "code/damaged.py": "unreadable",
        "code/locked.py": "unreadable",
        "code/link.py": "link",
        "code/good.py": b"good",
    }


def test_what_is_no_source_is_named(tmp_path):
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "cut.zip").write_bytes(zip_of(tmp_path / "whole.zip", {"a.py": b"x" * 100}).read_bytes()[:60])
    for name in ("text", "cut.zip"):
        with pytest.raises(DataError, match=rf"{name} is neither a folder nor a whole tar or zip archive"):
            find_sources([str(tmp_path / name)])
    with pytest.raises(DataError, match=r"nowhere does not exist\. Name a folder, a git repository, .* archive, or 'local'"):
        find_sources([str(tmp_path / "nowhere")])


@pytest.mark.parametrize("build", [FolderSource, TarSource, ZipSource])
def test_the_work_announced_is_the_work_done(tree, tmp_path, build):
    kind = {FolderSource: None, TarSource: "tar", ZipSource: "zip"}[build]
    path = Path(shutil.make_archive(str(tmp_path / "code"), kind, tree)) if kind else tree
    for batch in build("code", path).batches(judge):
        steps = [done for _, done in batch.read()]
        assert steps == sorted(steps)
        assert steps[-1] <= batch.num_bytes
        assert build is TarSource or steps[-1] == batch.num_bytes
