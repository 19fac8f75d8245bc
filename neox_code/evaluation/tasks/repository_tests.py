"""Functions of repositories, completed and checked by the repository's own tests.

    python tools/make_benchmark.py ~/projects --tests --output data/benchmark
    ./deepy.py evaluate CONFIG... --tasks repository_tests --problem-file data/benchmark/repository_tests.jsonl

A completion continues its file up to the body of a function, and takes the body's place. A sample passes if all tests that the
problem names pass. They run in the sandbox, on a copy of the repository in repositories/ beside the file of problems.
"""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from neox_code.errors import DataError
from neox_code.evaluation.execution.repository import RUNNERS, has_passed, make_test_program
from neox_code.evaluation.infilling_problems import read_problems
from neox_code.evaluation.sample_files import check_row
from neox_code.evaluation.task import CheckSettings, Outcome, Problems, Protocol, Task, TaskInputs, TaskProblem, TaskSample
from neox_code.evaluation.tasks.programs import execute

FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("runner", "archive", "folder"), str),
    "names": list,
    "seconds": (int, float),
}
REPOSITORIES = "repositories"


def load_repository_tests(inputs: TaskInputs) -> list[TaskProblem]:
    """Return the problems of a file of tools/make_benchmark.py. Raise DataError for one without tests or archive."""
    path = inputs.find_file("repository_tests/repository_tests.jsonl", "tools/make_benchmark.py --tests")
    problems = []
    for problem in read_problems(path):
        tests = check_row(problem.fields.get("tests"), FIELDS, f"{path}: {problem.id}: tests")
        archive = path.parent / REPOSITORIES / Path(tests["archive"]).name
        inside = [problem.fields["source"].get("path"), tests["folder"]]
        if not all(isinstance(each, str) and ".." not in each.split("/") and not posixpath.isabs(each) for each in inside):
            raise DataError(f"{path}: {problem.id} has a path that leaves its repository. Make the benchmark again.")
        if tests["runner"] not in RUNNERS or not tests["names"] or not archive.is_file():
            raise DataError(f"{path}: {problem.id}: {archive} or its tests are missing. Make the benchmark again.")
        problems.append(replace(problem, fields={**problem.fields, "tests": {**tests, "archive": str(archive)}}))
    return problems


def check_repository_tests(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
    """Yield the outcomes; a sample passes if all tests of its problem pass."""
    programs = []
    for sample in samples:
        problem = problems[sample.problem_id]
        tests, source = problem.fields["tests"], problem.fields["source"]
        code = problem.prompt + sample.completion + problem.fields["suffix"] if sample.solution is None else sample.solution
        files = [(source["path"], code)]
        programs.append(
            make_test_program(tests["runner"], tests["archive"], tests["folder"], files, tests["names"], tests["seconds"])
        )
    for sample, execution in zip(samples, execute(programs, settings), strict=True):
        tests = problems[sample.problem_id].fields["tests"]
        passed = has_passed(tests["runner"], execution, tests["names"])
        result = "failed: another result of the tests" if execution.result == "passed" else execution.result
        yield Outcome(passed, "passed" if passed else result)


REPOSITORY_TESTS = Task("repository_tests", load_repository_tests, check_repository_tests, Protocol())
