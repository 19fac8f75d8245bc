"""APPS: programs that read standard input, and functions that are called.

    apps/test.jsonl        problem_id, question, input_output, starter_code        https://huggingface.co/datasets/codeparrot/apps

`input_output` is JSON text: inputs, outputs, and fn_name for a function. Each test is one program. A sample passes if all its tests
do (strict accuracy); the share of its tests is reported too (test case average). A sample is a whole program.
"""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from neox_code.errors import DataError
from neox_code.evaluation.execution.judge import Execution, Program
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.scores import TaskScore, mean_score
from neox_code.evaluation.task import (
    CheckSettings,
    Outcome,
    Problems,
    Protocol,
    Task,
    TaskInputs,
    TaskProblem,
    TaskSample,
    summarize_passes,
)
from neox_code.evaluation.tasks.programs import execute

FIELDS = {"question": str, "input_output": str}
SECONDS = 4.0
"""Time limit of one test."""
MATH = ("sqrt", "sin", "cos", "tan", "ceil", "fabs", "floor", "gcd", "exp", "log", "log2")
PRELUDE = f"""\
import sys, time, itertools, collections, math, fractions, random, heapq
from itertools import accumulate, product, permutations, combinations
from collections import Counter, OrderedDict, deque, defaultdict, ChainMap
from functools import lru_cache
from math import {", ".join(MATH)}
from typing import List, Tuple
from heapq import *
"""
"""Imports that the benchmark puts before a sample."""
CALL = """
import json as _json
def _restore(value):
    return {{int(key): item for key, item in value.items()}} if isinstance(value, dict) else value
def _to_lists(value):
    return list(map(_to_lists, value)) if isinstance(value, (list, tuple)) else value
_inputs, _expected = _json.loads({test!r})
_inputs = [_restore(_inputs[0]), *_inputs[1:]] if _inputs else []
_function = getattr(Solution(), {name!r}) if "Solution" in globals() else globals()[{name!r}]
_found = _to_lists(_function(*_inputs))
_first = _expected[0] if isinstance(_expected, list) and _expected else _expected
assert _found in (_expected, _first, _restore(_expected), _restore(_first)), "wrong result"
"""


def load_apps(inputs: TaskInputs) -> list[TaskProblem]:
    """Return the problems. Raise DataError if tests are no JSON, or a problem has none."""
    path = inputs.find_file("apps/test.jsonl", "https://huggingface.co/datasets/codeparrot/apps")
    problems = []
    for number, row in enumerate(read_rows(path, FIELDS), 1):
        try:
            tests = json.loads(row["input_output"])
            cases = list(zip(tests["inputs"], tests["outputs"], strict=True))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: row {number}: input_output has no inputs and outputs as JSON ({error}).") from None
        if not cases:
            raise DataError(f"{path}: row {number} has no tests. Remove the row.")
        kind = "Call-Based" if tests.get("fn_name") else "Standard Input"
        starter = f"{row['starter_code']}\n" if row.get("starter_code") else ""
        prompt = f"\nQUESTION:\n{row['question']}\n{starter}\nUse {kind} format\nANSWER:\n"
        fields = row | {"cases": cases, "fn_name": tests.get("fn_name")}
        problems.append(TaskProblem(str(row.get("problem_id", row.get("id", number - 1))), prompt, fields=fields))
    return problems


def make_programs(problem: TaskProblem, sample: TaskSample) -> list[Program]:
    """Return a program for each test."""
    code = PRELUDE + (sample.completion if sample.solution is None else sample.solution)
    name = problem.fields["fn_name"]
    if name:
        tests = [json.dumps(case) for case in problem.fields["cases"]]
        return [Program("python", code + CALL.format(test=test, name=name), timeout_seconds=SECONDS) for test in tests]
    texts = [to_text(given) for given, _ in problem.fields["cases"]]
    return [Program("python", code, text, timeout_seconds=SECONDS, script=True) for text in texts]


def to_text(value: Any) -> str:
    """Return the text of an input or output, which a file may have as a list of lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def is_same_output(found: str, expected: str) -> bool:
    """Return True for the same words in the same lines; numbers may differ by their rounding. Empty lines do not count.

    >>> is_same_output("YES\\n0.3333333\\n", "YES\\n\\n0.33333333 \\n"), is_same_output("1 2\\n", "1\\n2\\n")
    (True, False)
    """
    lines = [[line.split() for line in text.splitlines() if line.strip()] for text in (found, expected)]
    if list(map(len, lines[0])) != list(map(len, lines[1])):
        return False
    return all(is_same_word(*pair) for pair in zip(chain(*lines[0]), chain(*lines[1]), strict=True))


def is_same_word(found: str, expected: str) -> bool:
    try:
        return found == expected or math.isclose(float(found), float(expected), rel_tol=1e-5, abs_tol=1e-8)
    except ValueError:
        return False


def check_apps(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
    """Yield the outcomes; `values` has the share of passed tests."""
    programs = [make_programs(problems[sample.problem_id], sample) for sample in samples]
    executions = execute([program for each in programs for program in each], settings, counts=False)
    for sample in samples:
        cases, name = (problems[sample.problem_id].fields[key] for key in ("cases", "fn_name"))
        results = [find_result(next(executions), None if name else to_text(expected)) for _, expected in cases]
        failed = next((f"{result} (test {index})" for index, result in enumerate(results) if result != "passed"), "passed")
        if settings.advance:
            settings.advance(1)
        yield Outcome(failed == "passed", failed, {"passed_tests": results.count("passed") / len(results)})


def find_result(execution: Execution, expected: str | None) -> str:
    """Return the result of one test; `expected` is the output of a program, or None for a function."""
    if execution.status != "passed" or expected is None or is_same_output(execution.stdout, expected):
        return execution.result
    return "failed: wrong output"


def summarize_apps(problems: Problems, samples: Sequence[TaskSample], outcomes: Sequence[Outcome]) -> list[TaskScore]:
    """Return strict accuracy as pass@k, and the mean share of passed tests."""
    shares: dict[str, list[float]] = {}
    for sample, outcome in zip(samples, outcomes, strict=True):
        shares.setdefault(sample.problem_id, []).append(outcome.values["passed_tests"])
    average = mean_score("test case average", [sum(each) / len(each) for each in shares.values()])
    return [*summarize_passes(problems, samples, outcomes), average]


APPS = Task("apps", load_apps, check_apps, Protocol(maximum_tokens=1024), summarize_apps)
