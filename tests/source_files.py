"""Functions for tests of corpus sources: read whole sources; make repositories and archives."""

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from neox_code.corpus.sources.find import Options, find_sources
from neox_code.corpus.sources.protocol import FoundFile, Project

GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
LIMIT = 2_000_000


def check(project: Project, path: str, num_bytes: int) -> str | None:
    if not path.endswith((".py", ".c", ".h")):
        return "other"
    return None if num_bytes <= LIMIT else "large"


def read(*sources: Path | str, **options: Any) -> list[FoundFile]:
    found = find_sources(list(map(str, sources)), Options(**options))
    return [file for source in found for batch in source.batches(check) for file, _ in batch.read()]


def contents(*sources: Path | str, **options: Any) -> dict[str, bytes | str | None]:
    """Return path below the sources -> content, or the reason why it was not read."""
    files = read(*sources, **options)
    return {f"{file.project.name}/{file.path}": file.content if file.reason is None else file.reason for file in files}


def under(name: str, files: dict) -> dict:
    return {f"{name}/{path}": content for path, content in files.items()}


def write_files(folder: Path, *paths: str) -> Path:
    """Write files whose content is their own path; return the folder."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def git(folder: Path, *arguments: str | Path) -> str:
    return subprocess.run([*GIT, "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder: Path, object_format: str = "sha1") -> str:
    git(folder, "init", "-q", f"--object-format={object_format}")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return git(folder, "rev-parse", "HEAD")


def make_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def make_tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    return member


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def need_permissions(folder: Path) -> None:
    """Skip the test for a user who may read everything."""
    shut = folder / "shut"
    shut.touch(mode=0)
    try:
        shut.read_bytes()
    except PermissionError:
        shut.unlink()
    else:
        pytest.skip("this user reads everything")
