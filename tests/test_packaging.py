"""The files of a source distribution, and the versions of constraints.txt."""

import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [*PROJECT["dependencies"], *(line for lines in PROJECT["optional-dependencies"].values() for line in lines)]


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_constraints_have_one_allowed_version_of_each_dependency(line: str) -> None:
    lines = [found for found in (ROOT / "constraints.txt").read_text().splitlines() if found and not found.startswith("#")]
    versions = {canonicalize_name(name): version for name, version in (found.split("==") for found in lines)}
    requirement = Requirement(line)
    assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_images_keep_their_own_torch() -> None:
    script = [sys.executable, ROOT / "tools/cluster/requirements.py", ROOT / "pyproject.toml", "test"]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == [
        line for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]) if not re.match(r"torch\b", line)
    ]


def test_a_source_distribution_has_the_files_of_a_checkout(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[
        :-1
    ]
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", ROOT, checkout], check=True)
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=checkout, capture_output=True, text=True, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert "neox_code/configs/small.yml" in names
    assert {name for name in tracked if (ROOT / name).exists()} - names == set()


def test_a_wheel_has_all_data_files_of_the_package() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "neox_code", "configs"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {
        path.resolve() for name, globs in patterns.items() for each in globs for path in (ROOT / name.replace(".", "/")).glob(each)
    }
    files = [ROOT / name for name in tracked if not name.endswith((".py", "README.md")) and (ROOT / name).is_file()]
    assert [path for path in files if path.resolve() not in found] == []
