import contextlib
import gzip
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from source_files import check, commit_all, contents, git, read, write_files

from neox_code.corpus.filters.repository import HasLicense, MaxSize, MinCommits, MinStars, NoForks
from neox_code.corpus.licenses.license import AllowedLicenses
from neox_code.corpus.sources.clone import CloneError, CloneLimits, clone, remove_clone
from neox_code.corpus.sources.find import Options, find_sources
from neox_code.errors import DataError

LIMITS = CloneLimits(timeout_seconds=30, pause_seconds=0.01)


def list_of(folder: Path, *rows: dict | str) -> Path:
    path = folder / "repositories.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def repository(folder: Path, name: str, *paths: str) -> str:
    """Makes a bare repository of two commits and returns its address."""
    work = folder / "work" / name
    commit_all(write_files(work, "first.py"))
    commit_all(write_files(work, *paths))
    git(folder, "clone", "-q", "--bare", work, folder / "served" / f"{name}.git")
    return f"file://{folder}/served/{name}.git"


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler] | partial) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Smart(BaseHTTPRequestHandler):
    """git http-backend behind a server that says no a few times first."""

    root = Path()
    refusals = 0
    requests: list[str]

    def do_GET(self) -> None:
        self.answer()

    do_POST = do_GET

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        type(self).requests.append(self.path)
        if type(self).refusals:
            type(self).refusals -= 1
            self.send_error(503)
            return
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment, check=True).stdout
        head, _, content = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


def smart(root: Path, refusals: int = 0) -> type[Smart]:
    return type("Served", (Smart,), {"root": root, "refusals": refusals, "requests": []})


class Dumb(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


class Hanging(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(5)

    def log_message(self, *_: object) -> None: ...


def test_every_repository_of_a_list_is_cloned_one_commit_deep_and_read(tmp_path):
    first = repository(tmp_path, "first", "a.py", "src/b.c", "README")
    second = repository(tmp_path, "second", "c.py")
    known = {"language": "Python", "stars": 70, "license": "MIT", "size_kib": 3, "is_fork": False, "commit": None}
    listed = list_of(tmp_path, {"name": "one/first", "url": first} | known, {"url": second}, {"url": first})
    files = read(listed, limits=LIMITS)
    assert {(file.project.name, file.path): file.content or file.reason for file in files} == {
        ("one/first", "README"): "other",
        ("one/first", "a.py"): b"a.py",
        ("one/first", "first.py"): b"first.py",
        ("one/first", "src/b.c"): b"src/b.c",
        ("served/second", "c.py"): b"c.py",
        ("served/second", "first.py"): b"first.py",
    }
    project = files[0].project
    assert (project.language, project.stars, project.license) == ("Python", 70, "MIT")
    assert project.commit == git(tmp_path / "work" / "first", "rev-parse", "HEAD")
    (tmp_path / "clones").mkdir()
    kept = read(listed, limits=LIMITS, clones=tmp_path / "clones", keep_clones=True)
    assert kept == files
    (clone_of_first,) = (tmp_path / "clones").rglob("first.git")
    assert git(clone_of_first, "rev-list", "--count", "HEAD") == "1"


def test_clones_are_removed_after_reading_and_reused_after_a_kill(tmp_path):
    listed = list_of(tmp_path, {"url": repository(tmp_path, "first", "a.py")}, {"url": repository(tmp_path, "second", "a.py")})
    (source,) = find_sources([listed], Options(clones=tmp_path / "clones", limits=LIMITS))
    (batch,) = source.batches(check)
    killed = pickle.loads(pickle.dumps(batch)).read()
    next(killed)
    assert len(list((tmp_path / "clones").rglob("first.git"))) == 1
    (tmp_path / "served" / "first.git").rename(tmp_path / "moved")
    killed.close()
    again = [file.reason or file.content for file, _ in batch.read()]
    assert again == [b"a.py", b"first.py", b"a.py", b"first.py"]
    assert list((tmp_path / "clones").rglob("*.git")) == []
    assert list((tmp_path / "clones").rglob("*.partial")) == []


@pytest.mark.parametrize("lost", ["packs", "objects"])
def test_a_partly_removed_clone_is_cloned_again(tmp_path, lost):
    listed = list_of(tmp_path, {"url": repository(tmp_path, "first", "a.py")})
    options = {"limits": LIMITS, "clones": tmp_path / "clones", "keep_clones": True}
    whole = read(listed, **options)
    (folder,) = (tmp_path / "clones").rglob("first.git")
    if lost == "objects":
        shutil.rmtree(folder / "objects")
    for pack in folder.glob("objects/pack/*"):
        pack.unlink()
    killed = subprocess.Popen(["true"])
    killed.wait()
    left = folder.with_name(f"first.git.{socket.gethostname()}-{killed.pid}.partial")
    left.mkdir()
    assert read(listed, **options) == whole
    assert list(folder.parent.iterdir()) == [folder]
    assert not left.exists()


def test_a_killed_removal_leaves_no_partial_clone_under_the_final_name(tmp_path, monkeypatch):
    (write_files(tmp_path / "a.git", "HEAD", "refs/x", "objects/x")).with_name("a.git.removing").mkdir()

    def killed(folder: Path, ignore_errors: bool) -> None:
        if any(folder.iterdir()):
            raise KeyboardInterrupt
        folder.rmdir()

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_clone(tmp_path / "a.git")
    assert [path.name for path in tmp_path.iterdir()] == ["a.git.removing"]


def test_a_repository_in_two_lists_is_read_once_for_any_spelling_of_its_address(tmp_path):
    address = repository(tmp_path, "first", "a.py")
    one = list_of(tmp_path, {"url": address}, {"url": f"{address}/"}, {"url": address.removesuffix(".git")})
    other = one.rename(tmp_path / "other.jsonl")
    one = list_of(tmp_path, {"url": address.replace("file://", "file://localhost")})
    for sources in ((one, other), (other, one)):
        files = read(*sources, limits=LIMITS, clones=tmp_path / "clones")
        assert [(file.project.name, file.path) for file in files] == [("served/first", "a.py"), ("served/first", "first.py")]


def test_the_commit_in_the_list_is_read_if_it_exists(tmp_path):
    address = repository(tmp_path, "first", "a.py")
    old = git(tmp_path / "work" / "first", "rev-parse", "HEAD~1")
    (file,) = read(list_of(tmp_path, {"url": address, "commit": old}), limits=LIMITS)
    assert (file.path, file.project.commit) == ("first.py", old)
    files = read(list_of(tmp_path, {"url": address, "commit": "0123456789" * 4}), limits=LIMITS)
    assert {file.project.commit for file in files} == {git(tmp_path / "work" / "first", "rev-parse", "HEAD")}


def test_a_kept_clone_is_replaced_for_another_commit(tmp_path):
    address = repository(tmp_path, "first", "a.py")
    new, old = (git(tmp_path / "work" / "first", "rev-parse", name) for name in ("HEAD", "HEAD~1"))
    options = {"limits": LIMITS, "clones": tmp_path / "clones", "keep_clones": True}
    for commit, paths in ((None, ["a.py", "first.py"]), (old, ["first.py"]), (new, ["a.py", "first.py"])):
        files = read(list_of(tmp_path, {"url": address, "commit": commit}), **options)
        assert [(file.path, file.project.commit) for file in files] == [(path, commit or new) for path in paths]
    (tmp_path / "served").rename(tmp_path / "moved")
    for commit in (new, None, "main"):
        assert read(list_of(tmp_path, {"url": address, "commit": commit}), **options) == files


def test_repositories_are_cloned_over_http_with_retries(tmp_path):
    repository(tmp_path, "first", "a.py")
    commit = git(tmp_path / "work" / "first", "rev-parse", "HEAD")
    for commit_of_list in (None, commit):
        served = smart(tmp_path / "served", refusals=2)
        with serving(served) as address:
            row = {"name": "one/first", "url": f"{address}/first.git", "commit": commit_of_list}
            assert contents(list_of(tmp_path, row), limits=LIMITS) == {"one/first/a.py": b"a.py", "one/first/first.py": b"first.py"}
        assert len(served.requests) > 3


def test_all_commits_are_cloned_from_a_server_of_plain_files(tmp_path):
    repository(tmp_path, "first", "a.py")
    git(tmp_path / "served" / "first.git", "update-server-info")
    with serving(partial(Dumb, directory=tmp_path / "served")) as address:
        row = {"name": "one/first", "url": f"{address}/first.git"}
        assert contents(list_of(tmp_path, row), limits=LIMITS) == {"one/first/a.py": b"a.py", "one/first/first.py": b"first.py"}


def test_a_repository_that_cannot_be_cloned_is_counted_and_the_others_are_read(tmp_path):
    good = repository(tmp_path, "good", "a.py")
    git(tmp_path, "init", "-q", "--bare", "served/empty.git")
    served = smart(tmp_path / "served")
    with serving(served) as address, serving(Hanging) as hanging:
        rows = [
            {"name": "x/lost", "url": f"{address}/lost.git"},
            {"name": "x/gone", "url": f"file://{tmp_path}/gone.git"},
            {"name": "x/empty", "url": f"file://{tmp_path}/served/empty.git"},
            {"name": "x/slow", "url": f"{hanging}/slow.git"},
            {"name": "x/large", "url": f"file://{tmp_path}/served/large.git", "size_kib": 2**40},
            {"name": "x/closed", "url": "http://127.0.0.1:9/closed.git"},
            {"name": "x/good", "url": good + "/"},
        ]
        found = contents(list_of(tmp_path, *rows), limits=CloneLimits(timeout_seconds=1, pause_seconds=0.01, attempts=2))
    assert len([path for path in served.requests if "lost" in path]) == 1
    assert found.pop("x/closed/").startswith("cannot be cloned: unable to access it: Failed to connect")
    assert found == {
        "x/lost/": "cannot be cloned: not found",
        "x/gone/": "cannot be cloned: not found",
        "x/empty/": "git repository cannot be read: it has no commit at HEAD",
        "x/slow/": "cannot be cloned: timeout after 1 seconds",
        "x/large/": "cannot be cloned: larger than 68,719,476,736 bytes",
        "x/good/a.py": b"a.py",
        "x/good/first.py": b"first.py",
    }


@pytest.mark.parametrize("address", ["ext::sh -c 'touch was-run'", "--upload-pack=touch was-run", "/etc", "file:/etc", "fd::3", ""])
def test_an_invalid_address_is_not_passed_to_git(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CloneError, match="its address begins with none of https, http, git, ssh, file"):
        clone(address, tmp_path / "clone", LIMITS)
    assert list(tmp_path.iterdir()) == []


def test_a_clone_that_grows_too_large_is_ended(tmp_path):
    (tmp_path / "work" / "big").mkdir(parents=True)
    (tmp_path / "work" / "big" / "a.py").write_bytes(os.urandom(2_000_000))
    address = repository(tmp_path, "big", "b.py")
    limits = CloneLimits(max_bytes=1_000_000, pause_seconds=0.01)
    found = contents(list_of(tmp_path, {"name": "x/big", "url": address, "size_kib": 1}), limits=limits)
    assert found == {"x/big/": "cannot be cloned: larger than 1,000,000 bytes"}


def test_a_clone_that_is_no_longer_needed_is_ended(tmp_path):
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    begin = time.monotonic()
    with serving(Hanging) as address, pytest.raises(CloneError, match="stopped"):
        clone(f"{address}/slow.git", tmp_path / "slow.git", LIMITS, stopped=stopped)
    assert time.monotonic() - begin < 4
    assert not (tmp_path / "slow.git").exists()


def test_a_clone_ends_with_its_parent_process(tmp_path):
    script = "import sys; from pathlib import Path; from neox_code.corpus.sources.clone import CloneLimits, clone; "
    script += "clone(sys.argv[1], Path(sys.argv[2]), CloneLimits())"
    with serving(Hanging) as address:
        process = subprocess.Popen([sys.executable, "-c", script, f"{address}/slow.git", str(tmp_path / "slow.git")])
        assert until(lambda: processes_with(address))
        process.kill()
        process.wait()
        assert until(lambda: not processes_with(address))


def until(is_true: Callable[[], object]) -> bool:
    end = time.monotonic() + 10
    while not is_true() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(is_true())


def processes_with(word: str) -> list[str]:
    """The git processes that have a word in their command."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = file.read_bytes().decode(errors="replace")
            found += [command] if command.startswith("git") and word in command else []
    return found


def test_a_full_disk_stops_with_a_remedy(tmp_path, monkeypatch):
    address = repository(tmp_path, "first", "a.py")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    fake = write_files(tmp_path, "bin/git") / "bin" / "git"
    fake.write_text("#!/bin/sh\necho 'fatal: write error: No space left on device' >&2\nexit 128\n")
    fake.chmod(0o755)
    with pytest.raises(DataError, match=r"no space is left to clone into .*\. Free some, or set TMPDIR to a larger disk\."):
        read(list_of(tmp_path, {"url": address}), limits=LIMITS)


def test_a_malicious_repository_has_no_effect(tmp_path, monkeypatch):
    marker = tmp_path / "was-run"
    work = write_files(tmp_path / "work" / "evil", "real.py")
    (work / ".gitattributes").write_text("*.py filter=lfs diff=lfs merge=lfs export-subst\n")
    (work / ".lfsconfig").write_text(f"[lfs]\n\turl = ext::touch {marker}\n")
    (work / ".gitmodules").write_text(
        f'[submodule "sub"]\n\tpath = sub\n\turl = ext::sh -c "touch% {marker}"\n\tupdate = !touch {marker}\n'
    )
    (work / "weights.py").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    (work / "link.py").symlink_to("/etc/passwd")
    (work / "hooks").symlink_to("/tmp")
    write_files(work, "config", "objects/info/alternates", "HEAD")
    commit = commit_all(work)
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    git(work, "commit", "-qm", "submodule")
    git(tmp_path, "clone", "-q", "--bare", work, tmp_path / "served" / "evil.git")
    for name in ("post-checkout", "post-merge", "reference-transaction", "upload-pack", "post-upload-pack"):
        hook = tmp_path / "served" / "evil.git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
    git(tmp_path / "served" / "evil.git", "config", "uploadpack.packObjectsHook", f"touch {marker}; exec git")
    template = write_files(tmp_path / "template", "hooks/reference-transaction") / "hooks" / "reference-transaction"
    template.write_text(f"#!/bin/sh\ntouch {marker}\n")
    template.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text(
        f'[filter "lfs"]\n\tsmudge = touch {marker}\n[init]\n\ttemplateDir = {tmp_path}/template\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = contents(list_of(tmp_path, {"name": "x/evil", "url": f"file://{tmp_path}/served/evil.git"}), limits=LIMITS)
    assert {path.removeprefix("x/evil/"): content for path, content in found.items()} == {
        ".gitattributes": "other",
        ".gitmodules": "other",
        ".lfsconfig": "other",
        "HEAD": "other",
        "config": "other",
        "hooks": "link",
        "link.py": "link",
        "objects/info/alternates": "other",
        "real.py": b"real.py",
        "sub": "not a regular file",
        "weights.py": "Git LFS pointer",
    }
    assert not marker.exists()


def test_unusual_addresses_do_not_stop_the_build(tmp_path):
    long = repository(tmp_path, "/".join("d" * 100 for _ in range(5)) + "/long", "a.py")
    rows = [
        {"name": "x/name", "url": f"https://example.invalid/{'a' * 3_000}"},
        {"name": "x/folders", "url": f"file:///{'a/' * 1_500}"},
        {"name": "x/argument", "url": f"https://example.invalid/{'a' * 200_000}"},
        {"name": "x/nul", "url": "https://example.invalid/a\0b"},
        {"name": "x/line", "url": "https://example.invalid/a\nb"},
        {"name": "x/long", "url": long},
    ]
    limits = CloneLimits(timeout_seconds=30, pause_seconds=0.01, attempts=1)
    for clones in (None, tmp_path / "clones"):
        found = contents(list_of(tmp_path, *rows), limits=limits, clones=clones)
        assert found.pop("x/long/a.py") == b"a.py"
        assert found.pop("x/long/first.py") == b"first.py"
        assert {path: reason.partition(":")[0] for path, reason in found.items()} == {
            f"x/{name}/": "cannot be cloned" for name in ("name", "folders", "argument", "nul", "line")
        }


def test_filters_and_damaged_lines_of_a_list_are_counted(tmp_path):
    address = repository(tmp_path, "good", "a.py")
    rows = [{"name": "x/few", "url": "https://example.invalid/few.git", "stars": 3}, "{broken", {"name": "x/no"}, ""]
    listed = list_of(tmp_path, *rows, {"name": "x/good", "url": address, "stars": 50})
    assert contents(listed, limits=LIMITS, repository_filters=(MinStars(50),)) == {
        "x/few/": "under 50 stars",
        "repositories:2/": "damaged line of a repository list",
        "repositories:3/": "damaged line of a repository list",
        "x/good/a.py": b"a.py",
        "x/good/first.py": b"first.py",
    }


def test_values_of_a_list_in_other_types_are_converted_for_the_filters(tmp_path):
    rows = [
        {"stars": "49", "commits": "many", "size_kib": [1], "license": ["MIT", "GPL-3.0"]},
        {"stars": {"count": 1}, "commits": 2.0, "size_kib": "7", "license": {"name": "MIT"}},
        {"stars": None, "commits": -1, "size_kib": 1e300, "license": ""},
    ]
    listed = list_of(tmp_path, *({"url": f"https://example.invalid/{number}.git"} | row for number, row in enumerate(rows)))
    filters = (MinStars(50), MinCommits(3), MaxSize(5), NoForks(), HasLicense(AllowedLicenses(("MIT",))))
    (source,) = find_sources([listed], Options(repository_filters=filters))
    assert [repository.reason for repository in source.repositories()] == [
        "under 50 stars",
        "under 3 commits",
        "repository without a license",
    ]


def test_a_damaged_compressed_list_is_read_up_to_the_damage(tmp_path):
    rows = "".join(json.dumps({"url": f"file://{tmp_path}/{number}.git"}) + "\n" for number in range(1000))
    (tmp_path / "repositories.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-100])
    (source,) = find_sources([tmp_path / "repositories.jsonl.gz"])
    *listed, damage = source.repositories()
    assert [repository.address for repository in listed] == [f"file://{tmp_path}/{number}.git" for number in range(len(listed))]
    assert damage.reason == f"repository list is damaged after {len(listed):,} lines: it breaks off"


def test_small_repositories_are_read_together_and_large_ones_alone(tmp_path):
    sizes = [100, 100, 20_000, 100, *[10] * 40]
    listed = list_of(
        tmp_path, *({"url": f"https://example.invalid/{number}.git", "size_kib": kib} for number, kib in enumerate(sizes))
    )
    (source,) = find_sources([listed])
    batches = list(source.batches(check))
    assert [len(batch.repositories) for batch in batches] == [2, 1, 16, 16, 9]
    assert sum(batch.num_bytes for batch in batches) == 1024 * sum(sizes)
    assert [pickle.loads(pickle.dumps(batch)) for batch in batches] == batches
