"""Programs that run the tests of a repository after one of its files was replaced: `make_test_program(...)` and `read_passed(...)`.

| runner | tests of | needs |
|---|---|---|
| pytest | a project in Python with files test_*.py or *_test.py, unittest's too | pytest |
| go | each package with files *_test.go | go |
| cargo | a crate of Rust, its unit and integration tests | cargo |
| node | a project with package.json whose tests use node:test, or are scripts that fail by an error | node 20 |

Packages that the tests import must be installed, or lie in the repository. Programs have no network and little time. The harness of
`languages.py` reports that the tests reach their end: lines that a completion prints alone prove nothing. In Go, a package's own
TestMain must end by os.Exit in its file.
"""

import functools
import inspect
import json
import posixpath
import re
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from neox_code.evaluation.execution import pytest_run
from neox_code.evaluation.execution.judge import Execution, Program
from neox_code.evaluation.execution.languages import GO_TAKE, RANDOM

TEST_FILES = re.compile(r"(?:^|/)(?:tests?/|__tests__/|conftest\.py$|(?:test_[^/]*|[^/]*_test|[^/]*\.test|[^/]*\.spec)\.\w+$)")
CARGO_TESTS = "#[cfg(test)]"
GO_HARNESS = """package {package}
import (
    "os"
    "testing"
)
{take}
func exit_{random}(status int) {{
    if status == 0 {{
        end_{random}()
    }}
    os.Exit(status)
}}
func TestMain(tests *testing.M) {{
    os.Args = append(os.Args[:1:1], {arguments})
    {main}
}}
"""
NODE_FAILED = re.compile(r"^\s*not ok \d+ - (.+?)\s*$", re.M)
GO_TEST_MAIN = re.compile(r"^func TestMain\(", re.M)


@dataclass(frozen=True)
class RepositoryRunner:
    """A way to run the tests of a repository."""

    language: str
    """Language of the functions that the tests check, by its name in linguist."""
    program: str
    """The language of its programs in LANGUAGES."""
    marker: re.Pattern[str]
    """The path of a file that a repository with such tests has."""
    fail: str
    """Statement that stops a function with an error."""
    nothing: str
    """Body of a function that does nothing."""
    passed: re.Pattern[str] = re.compile(r"^ok (.+)$", re.M)
    """Line that a run prints for each test that passes; its group is the name."""


RUNNERS = {
    "pytest": RepositoryRunner(
        "Python", "python", re.compile(r"(?:^|/)(?:test_\w+|\w+_test)\.py$"), "raise NotImplementedError", "pass"
    ),
    "go": RepositoryRunner(
        "Go", "go test", re.compile(r"_test\.go$"), 'panic("not implemented")', "", re.compile(r"^--- PASS: (\S+)", re.M)
    ),
    "cargo": RepositoryRunner(
        "Rust",
        "cargo test",
        re.compile(r"(?:^|/)Cargo\.toml$"),
        "unimplemented!();",
        "",
        re.compile(r"^test (\S+) \.\.\. ok$", re.M),
    ),
    "node": RepositoryRunner(
        "JavaScript",
        "node test",
        re.compile(r"(?:^|/)package\.json$"),
        'throw new Error("not implemented");',
        "",
        re.compile(r"^\s*ok \d+ - ((?!.*# (?:SKIP|TODO)).+?)\s*$", re.M),
    ),
}


def list_test_folders(runner: str, paths: Collection[str]) -> list[str]:
    """Return the folders of a repository in which tests are run; none without tests.

    They are those with tests for Go, those with the project's file for cargo and node, and the root for pytest. The root is the
    only folder at the top, as in archives of releases, or the top itself.
    """
    marked = {posixpath.dirname(path) for path in paths if RUNNERS[runner].marker.search(path)}
    if runner != "pytest" or not marked:
        return sorted(marked)
    tops = {path.partition("/")[0] if "/" in path else "" for path in paths}
    return [tops.pop() if len(tops) == 1 else ""]


def is_checked(runner: str, folder: str, folders: Sequence[str], path: str) -> bool:
    """Return True if the tests of a folder, of all `folders`, check the functions of a file. Files of tests are checked by none."""
    parents = {"", *(path[:place] for place, character in enumerate(path) if character == "/")}
    nearest = posixpath.dirname(path) if runner == "go" else max(parents.intersection(folders), key=len, default=None)
    return folder == nearest and not TEST_FILES.search(path)


def make_test_program(
    runner: str, archive: str, folder: str, files: Sequence[tuple[str, str]], names: Sequence[str], seconds: float
) -> Program:
    """Return the program that runs the tests `names` of the repository in a zip archive, all tests if there are no names.

    `files` are paths in the repository with their new text.
    """
    source = f"{inspect.getsource(pytest_run)}\nrun_tests({list(names)!r})\n" if runner == "pytest" else ""
    arguments: tuple[str, ...] = ()
    if runner == "go":
        files = [*files, *make_go_harness(archive, folder, names)]
    elif names and runner == "cargo":
        arguments = ("--", "--exact", *names)
    return Program(
        RUNNERS[runner].program,
        source,
        timeout_seconds=seconds,
        tree=archive,
        files=tuple(files),
        folder=folder,
        arguments=arguments,
    )


def make_go_harness(archive: str, folder: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the file that runs the tests `names` of a package and reports their end, and the package's own TestMain, renamed."""
    sources = read_go_package(archive, folder)
    own = next((name for name, text in sources.items() if name.endswith("_test.go") and GO_TEST_MAIN.search(text)), None)
    first = own or min(sources, key=lambda name: (name.endswith("_test.go"), "//go:build" in sources[name]))
    package = re.search(r"^package (\w+)", sources[first], re.M)
    arguments = ["-test.v"] + ([f"-test.run=^({'|'.join(map(re.escape, names))})$"] if names else [])
    harness = GO_HARNESS.format(
        package=package[1] if package else "main",
        take=GO_TAKE,
        random=RANDOM,
        arguments=", ".join(map(json.dumps, arguments)),
        main=f"main_{RANDOM}(tests)" if own else f"exit_{RANDOM}(tests.Run())",
    )
    made = [(posixpath.join(folder, "0_end_test.go"), harness)]
    if own:
        text = GO_TEST_MAIN.sub(f"func main_{RANDOM}(", sources[own]).replace("os.Exit(", f"exit_{RANDOM}(")
        made.append((posixpath.join(folder, own), text + ("\nvar _ = os.Args\n" if '"os"' in text else "")))
    return made


@functools.lru_cache(maxsize=64)
def read_go_package(archive: str, folder: str) -> dict[str, str]:
    """Return the texts of a folder's files of Go, by their names."""
    with zipfile.ZipFile(archive) as opened:
        paths = [path for path in opened.namelist() if posixpath.dirname(path) == folder and path.endswith(".go")]
        return {posixpath.basename(path): opened.read(path).decode(errors="surrogateescape") for path in sorted(paths)}


def read_passed(runner: str, execution: Execution) -> list[str]:
    """Return the names of the tests that passed, each once."""
    return list(dict.fromkeys(RUNNERS[runner].passed.findall(execution.stdout)))


def has_passed(runner: str, execution: Execution, names: Sequence[str]) -> bool:
    """Return True if all tests of `names` passed. Of node, which runs all its tests, others may fail."""
    if runner == "node":
        lines = NODE_FAILED.findall(execution.stdout)
        return execution.ended and set(names) <= set(read_passed(runner, execution)) and not set(names).intersection(lines)
    return execution.status == "passed" and (runner == "pytest" or set(names) <= set(read_passed(runner, execution)))
