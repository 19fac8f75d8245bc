"""Problems whose completions the tests of their repository check: bodies of functions that these tests execute.

    trees = read_trees(["~/projects/boltons"])                         # repository -> path -> content
    made = make_test_problems("boltons", trees["boltons"], documents, Path("benchmark/repositories"), 20, seed=1234)

A function is chosen if some tests that pass with its own body fail when it raises an error at its beginning, and again when its
body is empty. These tests check a completion, at most MOST_TESTS of them. A test that does not pass twice, or takes over a second
with pytest or Go, is not used.
"""

import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neox_code.corpus.shards import Document
from neox_code.evaluation.execution.judge import Execution, Program, run_programs
from neox_code.evaluation.execution.language_files import find_missing_program
from neox_code.evaluation.execution.repository import (
    CARGO_TESTS,
    RUNNERS,
    has_passed,
    is_checked,
    list_test_folders,
    make_test_program,
    read_passed,
)
from neox_code.evaluation.infilling_problems import make_problems
from neox_code.evaluation.source_files import iterate_files
from neox_code.evaluation.task import TaskProblem
from neox_code.logs import get_logger, progress

log = get_logger(__name__)

LARGEST_FILE, LARGEST_TREE, MOST_FILES = 16 << 20, 256 << 20, 20_000
RUN_SECONDS = 300.0
"""Time limit for all tests of a repository."""
LEAST_SECONDS = 20.0
MOST_TESTS = 20
TRIED = 4
"""Functions that are tried for each problem that is wanted."""
AT_ONCE = 16


@dataclass
class TestedRepository:
    """The problems of a repository, and what became of its tests."""

    problems: list[TaskProblem] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    """Runner, with the folder of its tests -> what was found, for a reader."""


def read_trees(places: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Return the files of each repository in folders, git repositories and archives, without those over 16 MiB."""
    trees: dict[str, dict[str, bytes]] = defaultdict(dict)
    for file in iterate_files(places, LARGEST_FILE):
        if file.content is not None:
            trees[file.project.name][file.path] = file.content
    return trees


def save_tree(files: dict[str, bytes], path: Path) -> None:
    """Write the files of a repository as a zip archive with the same bytes for the same files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)


def make_test_problems(
    repository: str, files: dict[str, bytes], documents: Sequence[Document], folder: Path, count: int, seed: int, weak: bool = False
) -> TestedRepository:
    """Return up to `count` problems of a repository, and write it to `folder` as an archive if there are any.

    `documents` are its files that functions can be taken from. `weak`: run even if the sandbox lacks a part.
    """
    made = TestedRepository()
    archive = folder / (re.sub(r"[^\w.-]+", "__", repository) + ".zip")
    if len(files) > MOST_FILES or sum(map(len, files.values())) > LARGEST_TREE:
        made.runs["all"] = f"over {MOST_FILES:,} files or {LARGEST_TREE >> 20} MiB"
        return made
    for runner, known in RUNNERS.items():
        own = [each for each in documents if each.language == known.language]
        folders = list_test_folders(runner, files) if own else []
        for place in folders:
            checked = [each for each in own if is_checked(runner, place, folders, each.path)]
            if checked and len(made.problems) < count:
                if not archive.exists():
                    save_tree(files, archive)
                search = TestSearch(runner, place, archive, weak)
                made.problems += search.find(checked, count - len(made.problems), seed)
                made.runs[f"{runner} {place}".strip()] = search.report
    if not made.problems:
        archive.unlink(missing_ok=True)
    return made


class TestSearch:
    """The search for functions that the tests in a folder of a repository check."""

    def __init__(self, runner: str, folder: str, archive: Path, weak: bool) -> None:
        self.runner, self.folder, self.archive, self.weak = runner, folder, archive, weak
        self.report = ""
        self.tests: list[str] = []
        self.seconds = RUN_SECONDS

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        return list(run_programs(programs, weak_sandbox=self.weak))

    def make_program(self, files: Sequence[tuple[str, str]], names: Sequence[str]) -> Program:
        return make_test_program(self.runner, str(self.archive), self.folder, files, names, self.seconds)

    def find(self, documents: Sequence[Document], count: int, seed: int) -> list[TaskProblem]:
        """Return up to `count` problems; `report` then has the number of tests, or the reason why there are none."""
        if missing := find_missing_program(RUNNERS[self.runner].program):
            self.report = f"{missing} is not installed"
            return []
        first = self.run([self.make_program((), ())])[0]
        second = self.run([self.make_program((), read_passed(self.runner, first))])[0]
        self.tests = [name for name in read_passed(self.runner, first) if name in set(read_passed(self.runner, second))]
        if not self.tests:
            self.report = f"no test passes: {first.result}"
            return []
        self.seconds = max(LEAST_SECONDS, 4 * second.seconds)
        candidates = [
            problem
            for problem in make_problems(documents, ("function",), TRIED * count, seed)
            if self.runner != "cargo" or CARGO_TESTS not in problem.prompt
        ]
        found: list[TaskProblem] = []
        title = f"{self.archive.stem}: {self.runner}"
        with progress(f"{title}, {len(self.tests):,} tests", len(candidates), "functions") as advance:
            for begin in range(0, len(candidates), AT_ONCE):
                if len(found) < count:
                    found += self.select(candidates[begin : begin + AT_ONCE])
                    advance(len(candidates[begin : begin + AT_ONCE]))
        self.report = f"{len(self.tests):,} tests pass, {min(len(found), count)} functions"
        return found[:count]

    def select(self, candidates: Sequence[TaskProblem]) -> list[TaskProblem]:
        """Return the problems whose functions the tests check, with the names of these tests."""
        known = RUNNERS[self.runner]
        failing = [self.make_program([splice(each, add_statement(each, known.fail))], self.tests) for each in candidates]
        checked = []
        for problem, execution in zip(candidates, self.run(failing), strict=True):
            passed = set(read_passed(self.runner, execution))
            names = [name for name in self.tests if name not in passed]
            if names and (execution.status != "compile error" and execution.result != "timed out"):
                checked.append((problem, names[:: math.ceil(len(names) / MOST_TESTS)]))
        pairs = [
            self.make_program([splice(problem, body)], names)
            for problem, names in checked
            for body in (problem.fields["middle"], known.nothing)
        ]
        executions = self.run(pairs)
        return [
            add_tests(
                problem,
                runner=self.runner,
                archive=self.archive.name,
                folder=self.folder,
                names=names,
                seconds=max(LEAST_SECONDS, round(10 * whole.seconds)),
            )
            for (problem, names), whole, empty in zip(checked, executions[::2], executions[1::2], strict=True)
            if has_passed(self.runner, whole, names) and not has_passed(self.runner, empty, names)
        ]


def splice(problem: TaskProblem, body: str) -> tuple[str, str]:
    """Return the path and the text of a problem's file with another body of its function."""
    return problem.fields["source"]["path"], problem.prompt + body + problem.fields["suffix"]


def add_statement(problem: TaskProblem, statement: str) -> str:
    """Return the body of a function with a statement before it: on a line of its own, if the body begins its line."""
    indentation = problem.prompt.rpartition("\n")[2]
    return statement + ("; " if indentation.strip() else f"\n{indentation}") + problem.fields["middle"]


def add_tests(problem: TaskProblem, runner: str, archive: str, folder: str, names: Sequence[str], seconds: float) -> TaskProblem:
    tests: dict[str, Any] = {
        "runner": runner,
        "archive": archive,
        "folder": folder,
        "names": list(names),
        "seconds": round(seconds),
    }
    return replace(problem, fields={**problem.fields, "tests": tests})
