import io
import os
import random
import shutil
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
import zstandard
from source_files import LIMIT, check, contents, make_tar, make_tar_member, make_zip, read, under, write_files

from neox_code.corpus.sources import compressed, zip_archive
from neox_code.corpus.sources.find import find_sources
from neox_code.corpus.sources.source_names import make_printable
from neox_code.corpus.sources.zip_directory import find_directory, read_entries

KINDS = {"tar": "tar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar", "tar.zst": "tar", "zip": "zip"}


def archive_of(tree: Path, folder: Path, suffix: str) -> Path:
    path = Path(shutil.make_archive(str(folder / "code"), KINDS[suffix], tree))
    if suffix == "tar.zst":
        path.with_name("code.tar.zst").write_bytes(zstandard.compress(path.read_bytes()))
        path.unlink()
    return path.with_name(f"code.{suffix}")


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_of_archive_has_the_files_of_the_folder(tree, tmp_path, suffix):
    expected = {path.removeprefix("tree/"): content for path, content in contents(tree, layout="repository").items()}
    archive = archive_of(tree, tmp_path, suffix)
    assert contents(archive) == under("code", expected)
    assert [file.path for file in read(archive)] == [file.path for file in read(archive)]


@pytest.mark.parametrize("suffix", KINDS)
def test_an_archive_is_recognized_by_its_content(tmp_path, suffix):
    archive = archive_of(write_files(tmp_path / "tree", "a.py"), tmp_path, suffix)
    archive.rename(tmp_path / "download")
    assert contents(tmp_path / "download") == {"download/a.py": b"a.py"}


def test_an_archive_whose_first_name_is_a_brace_is_no_dataset(tmp_path):
    members = (make_tar_member("{{cookiecutter.name}}/a.py"), b"x"), (make_tar_member("b.py"), b"y")
    for name in ("code.tar", "download"):
        found = contents(make_tar(tmp_path / name, *members))
        assert found == under(name.removesuffix(".tar"), {"{{cookiecutter.name}}/a.py": b"x", "b.py": b"y"})


def test_a_zstd_archive_can_begin_and_end_with_notes(tmp_path):
    """As pzstd and the seekable format write them: frames without content between those that have some."""
    plain = archive_of(write_files(tmp_path / "tree", "a.py"), tmp_path, "tar").read_bytes()
    first, second = (zstandard.compress(part) for part in (plain[:700], plain[700:]))
    notes = [struct.pack("<LL", 0x184D2A50 + number, 5 * number) + b"note." * number for number in (0, 5, 15)]
    (tmp_path / "code.tar.zst").write_bytes(notes[0] + first + notes[1] + second + notes[2])
    assert contents(tmp_path / "code.tar.zst") == {"code/a.py": b"a.py"}


def test_an_archive_is_one_project_unless_a_layout_is_given(tmp_path):
    root = write_files(tmp_path / "tree", "Go/golang/go/a.c", "Go/golang/tools/b.c")
    for suffix in ("tar.gz", "zip"):
        archive = archive_of(root, tmp_path, suffix)
        assert {(file.project.name, file.project.language) for file in read(archive)} == {("code", None)}
        found = [
            (file.project.name, file.project.language, file.path) for file in read(archive, layout="language/organization/project")
        ]
        assert sorted(found) == [("golang/go", "Go", "a.c"), ("golang/tools", "Go", "b.c")]


def test_an_archive_can_name_its_organization(tmp_path):
    assert contents(make_zip(tmp_path / "torvalds__linux.zip", {"a.c": b"x"})) == {"torvalds/linux/a.c": b"x"}


# What is hostile in tar archives


def test_names_in_a_tar_archive_open_no_file_outside(tmp_path):
    archive = make_tar(
        tmp_path / "evil.tar",
        (make_tar_member("/etc/absolute.py"), b"1"),
        (make_tar_member("../../up.py"), b"2"),
        (make_tar_member("a/../b/./c.py"), b"3"),
        (make_tar_member("folder", tarfile.DIRTYPE), b""),
        (make_tar_member("soft.py", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (make_tar_member("hard.py", tarfile.LNKTYPE, "../../up.py"), b""),
        (make_tar_member("device.py", tarfile.CHRTYPE), b""),
        (make_tar_member("pipe.py", tarfile.FIFOTYPE), b""),
        (make_tar_member(os.fsdecode(b"caf\xe9.py")), b"4"),
        (make_tar_member("two\nlines.py"), b"5"),
        (make_tar_member(".."), b"6"),
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
        "evil/caf\\xe9.py": b"4",
        "evil/two\\x0alines.py": b"5",
        "evil/unnamed": "other",
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_long_and_repeated_names_are_read(tmp_path):
    long = "/".join(["d" * 99] * 50) + "/a.py"
    assert len(long) > 5000
    members = ((make_tar_member(long), b"1"), (make_tar_member("b.py"), b"2"), (make_tar_member("b.py"), b"3"))
    found = [(file.path, file.content) for file in read(make_tar(tmp_path / "a.tar", *members))]
    assert found == [(long, b"1"), ("b.py", None), ("b.py", b"3")]
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member, content in members:
            archive.writestr(member.name, content)
    assert [(file.path, file.content) for file in read(tmp_path / "a.zip")] == found


def test_names_too_long_for_any_file_system_are_cut(tmp_path):
    """A bomb of names: a megabyte each, of which an archive holds a thousand in a few bytes."""
    members = [(make_tar_member(f"{number}/" + "d/" * 500_000 + "a.py"), b"x") for number in range(20)]
    found = read(make_tar(tmp_path / "a.tar", *members, (make_tar_member("b.py"), b"y")))
    assert [(len(file.path), file.path[:4], file.path[-5:], file.reason) for file in found[:2]] == [
        (8192, "0/d/", "/d...", "other"),
        (8192, "1/d/", "/d...", "other"),
    ]
    assert [(file.path, file.content) for file in found[20:]] == [("b.py", b"y")]


def test_a_large_member_is_skipped(tmp_path):
    archive = make_tar(tmp_path / "a.tar", (make_tar_member("large.py"), bytes(LIMIT + 1)), (make_tar_member("small.py"), b"x"))
    assert contents(archive) == {"a/large.py": "large", "a/small.py": b"x"}


def test_a_sparse_member_is_not_expanded(tmp_path):
    sparse = make_tar_member("sparse.py")
    sparse.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000", "GNU.sparse.name": "sparse.py"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        sparse.size = 1
        archive.addfile(sparse, io.BytesIO(b"x"))
    assert contents(tmp_path / "a.tar") == {"a/sparse.py": "sparse file"}


@pytest.mark.parametrize("suffix", [suffix for suffix in KINDS if suffix != "zip"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_members_before_the_end_of_a_truncated_tar_archive_are_kept(tree, tmp_path, suffix, share):
    archive = archive_of(tree, tmp_path, suffix)
    whole = read(archive)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content)) // 512 * 512])
    *good, last, damage = read(archive)
    assert good == whole[: len(good)]
    assert last.path == whole[len(good)].path
    assert last.reason == "unreadable" or last == whole[len(good)]
    assert damage.path == ""
    assert damage.project.name == "code"
    assert damage.reason.startswith("damaged after ")
    assert read(archive) == [*good, last, damage]


def test_damage_in_a_tar_archive_is_reported(tmp_path):
    archive = make_tar(tmp_path / "code.tar", *((make_tar_member(f"{number}.py"), b"x" * 600) for number in range(5)))
    content = bytearray(archive.read_bytes())
    content[2 * 1536 + 20] ^= 1
    archive.write_bytes(content)
    good = {f"code/{number}.py": b"x" * 600 for number in range(2)}
    assert contents(archive) == good | {"code/": "damaged after 2 members: bad checksum"}


def test_a_huge_extended_header_is_refused_before_it_is_read(tmp_path):
    header = make_tar_member("x", tarfile.XHDTYPE)
    header.size = 5 * 2**30
    first = make_tar(tmp_path / "code.tar", (make_tar_member("a.py"), b"x")).read_bytes()[:1024]
    (tmp_path / "code.tar").write_bytes(first + header.tobuf() + bytes(10_000))
    assert contents(tmp_path / "code.tar") == {
        "code/a.py": b"x",
        "code/": "damaged after 1 members: an extended header of 5,368,709,120 bytes, expected at most 1,048,576",
    }


def test_a_member_of_negative_size_ends_the_archive(tmp_path):
    header = bytearray(make_tar_member("a.py").tobuf())
    header[124:136] = b"\xff" * 12
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "code.tar").write_bytes(bytes(header) + bytes(1024))
    assert contents(tmp_path / "code.tar") == {"code/": "damaged after 0 members: a member of -1 bytes"}


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_an_archive_that_expands_without_end_is_stopped(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(compressed, "EXPANSION_ALLOWED", 2**22)
    bomb = make_tar(tmp_path / "plain", (make_tar_member("good.py"), b"good"), (make_tar_member("zeros"), bytes(2**26)))
    pack = {"tar.gz": "gzip", "tar.bz2": "bz2", "tar.xz": "lzma"}
    content = bomb.read_bytes()
    packed = zstandard.compress(content) if suffix == "tar.zst" else __import__(pack[suffix]).compress(content)
    (tmp_path / f"code.{suffix}").write_bytes(packed)
    assert contents(tmp_path / f"code.{suffix}") == {
        "code/good.py": b"good",
        "code/zeros": "other",
        "code/": "damaged after 2 members: it expands to more than 200 times its size",
    }


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_that_is_no_archive_is_counted_and_the_others_are_read(tmp_path, suffix):
    (tmp_path / f"bad.{suffix}").write_bytes(random.Random(1).randbytes(3000))
    (tmp_path / f"empty.{suffix}").touch()
    good = make_tar(tmp_path / "good.tar", (make_tar_member("a.py"), b"x"))
    found = contents(tmp_path / f"bad.{suffix}", tmp_path / f"empty.{suffix}", good)
    assert found.pop("good/a.py") == b"x"
    assert {path: reason.partition(" ")[0].rstrip(":") for path, reason in found.items()} == {
        "bad/": "damaged",
        "empty/": "damaged",
    }


# What is hostile in zip archives


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_zip_compression_method_is_read(tmp_path, method):
    files = {"a.py": os.urandom(50_000), "b.py": b"spam " * 10_000, "empty.py": b""}
    assert contents(make_zip(tmp_path / "code.zip", files, method)) == under("code", files)


def test_a_zip_member_with_a_wrong_size_is_unreadable(tmp_path):
    """A bomb: 50 MB that claim to be 100 bytes, in the local header and in the central directory."""
    bomb = bytes(50_000_000)
    archive = make_zip(tmp_path / "bomb.zip", {"bomb.py": bomb, "good.py": b"good"})
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<L", len(bomb)), struct.pack("<L", 100)))
    assert contents(archive) == {"bomb/bomb.py": "unreadable", "bomb/good.py": b"good"}


def test_a_zip_member_larger_than_stated_is_not_read_whole(tmp_path):
    archive = make_zip(tmp_path / "bomb.zip", {"bomb.py": os.urandom(30_000_000)}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    start = content.rindex(b"PK\x01\x02") + 24
    content[start : start + 4] = struct.pack("<L", 100)
    archive.write_bytes(content)
    del content
    tracemalloc.start()
    found = contents(archive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"bomb/bomb.py": "unreadable"}
    assert peak < 5_000_000


def test_damaged_and_encrypted_zip_members_are_counted_and_links_are_listed(tmp_path):
    archive = make_zip(tmp_path / "code.zip", {"damaged.py": b"spam " * 100, "locked.py": b"x", "good.py": b"good"})
    with zipfile.ZipFile(archive, "a") as appended:
        link = zipfile.ZipInfo("link.py")
        link.external_attr = 0o120777 << 16
        appended.writestr(link, "/etc/passwd")
        appended.writestr("../../up.py", b"up")
    content = bytearray(archive.read_bytes())
    content[40] ^= 0xFF
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = [index for index in range(len(content)) if content[index : index + 4] == signature][1]
        content[start + flags] |= 1
    archive.write_bytes(content)
    assert contents(archive) == {
        "code/damaged.py": "unreadable",
        "code/locked.py": "encrypted",
        "code/link.py": "link",
        "code/up.py": b"up",
        "code/good.py": b"good",
    }


@pytest.mark.parametrize("is_large", [False, True])
def test_the_directory_of_a_zip_archive_is_read_as_the_standard_library_reads_it(tmp_path, monkeypatch, is_large):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000 if is_large else zipfile.ZIP64_LIMIT)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5 if is_large else zipfile.ZIP_FILECOUNT_LIMIT)
    names = ["a.py", "folder/", "folder/b.py", "caf\u00e9.py", "\u2603.py", *(f"{number}.py" for number in range(20))]
    path = make_zip(tmp_path / "code.zip", {name: os.urandom(100 * len(name)) for name in names})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x07 not the end"
        archive.writestr(zipfile.ZipInfo("old name \u00e9.py"), b"x", zipfile.ZIP_STORED)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert (b"PK\x06\x07" in path.read_bytes()) == is_large
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        expected = archive.infolist()
        found = list(read_entries(stream, find_directory(stream)))
        kept = {f"code/{name}": archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    assert [(make_printable(entry.name), entry.num_bytes, entry.stored_bytes, entry.crc, entry.offset) for entry in found] == [
        (member.filename, member.file_size, member.compress_size, member.CRC, member.header_offset) for member in expected
    ]
    assert contents(path) == kept


def test_damage_inside_the_directory_of_a_zip_archive_keeps_the_members_before_it(tmp_path):
    archive = make_zip(tmp_path / "code.zip", {"a.py": b"a", "b.py": b"b", "c.py": b"c"})
    content = archive.read_bytes()
    last = content.rindex(b"PK\x01\x02")
    archive.write_bytes(content[:last] + b"XX" + content[last + 2 :])
    assert contents(archive) == {"code/a.py": b"a", "code/b.py": b"b", "code/": "damaged after 2 members: its directory is damaged"}


def test_zip_members_that_share_bytes_are_not_read(tmp_path):
    """As the bombs that have one kernel of zeros in many members: the directory points to the same bytes again and again."""
    archive = make_zip(tmp_path / "bomb.zip", {"a.py": bytes(1_000_000), "b.py": bytes(1_000_000), "good.py": b"good"})
    content = archive.read_bytes()
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    archive.write_bytes(content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :])
    found = contents(archive)
    assert found["bomb/good.py"] == b"good"
    assert found["bomb/a.py"] == "overlaps another member"
    assert found["bomb/b.py"] in ("overlaps another member", "unreadable", bytes(1_000_000))


def test_zip_members_past_the_ratio_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_archive, "EXPANSION_ALLOWED", 3_000_000)
    monkeypatch.setattr(zip_archive, "EXPANSION_RATIO", 2)
    archive = make_zip(tmp_path / "bomb.zip", {f"{number}.py": bytes(1_000_000) for number in range(5)})
    reasons = [file.reason for file in read(archive)]
    assert reasons == [None, None, None, *["past 200 times its archive's size"] * 2]


def test_a_zip_archive_without_its_directory_is_damaged(tmp_path):
    (tmp_path / "cut.zip").write_bytes(make_zip(tmp_path / "whole.zip", {"a.py": b"x" * 100}).read_bytes()[:60])
    assert contents(tmp_path / "cut.zip") == {"cut/": "damaged after 0 members: it has no directory at its end"}


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_batches_of_an_archive_are_independent(tmp_path, suffix):
    files = {f"{number:02d}.py": os.urandom(1_500_000) for number in range(12)}
    make_zip(tmp_path / "code.zip", files)
    make_tar(tmp_path / "code.tar", *((make_tar_member(name), content) for name, content in files.items()))
    (source,) = find_sources([tmp_path / f"code.{suffix}"])
    batches = list(source.batches(check))
    assert len(batches) == 2
    found = {file.path: file.content for batch in reversed(batches) for file, _ in batch.read()}
    assert found == files


@pytest.mark.parametrize("suffix", [None, *KINDS])
def test_progress_ends_at_the_announced_amount(tree, tmp_path, suffix):
    (source,) = find_sources([archive_of(tree, tmp_path, suffix) if suffix else tree])
    for batch in source.batches(check):
        steps = [done for _, done in batch.read()]
        assert steps == sorted(steps)
        assert steps[-1] <= batch.num_bytes
        assert suffix not in (None, "tar", "zip") or steps[-1] == batch.num_bytes


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_the_last_member_of_a_path_is_read_as_by_tar_and_unzip(tmp_path, suffix):
    members = (("p/a.py", b"first"), ("b.py", b"b"), ("./p/a.py", b"last"))
    path = tmp_path / f"twice.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, content in members:
                archive.writestr(name.removeprefix("./"), content)
    else:
        make_tar(
            path, *((make_tar_member(name), content) for name, content in members), mode="w:gz" if suffix.endswith("gz") else "w"
        )
    shutil.unpack_archive(path, tmp_path / "unpacked")
    kept = {file.path: file.content for file in read(path) if file.reason is None}
    assert (
        kept
        == {name: (tmp_path / "unpacked" / name).read_bytes() for name in ("p/a.py", "b.py")}
        == {"p/a.py": b"last", "b.py": b"b"}
    )
    assert [file.reason for file in read(path)] == ["replaced by a later member of its path", None, None]
