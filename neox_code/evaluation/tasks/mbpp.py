"""MBPP: 500 problems of its test split, asked with three examples.

    mbpp/mbpp.jsonl        task_id, text, code, test_list, test_setup_code

from https://github.com/google-research/google-research (mbpp)

The prompt is that of the paper and of lm-evaluation-harness. A sample is a whole program, and the prompt is no part of it.
"""

from collections.abc import Mapping
from typing import Any

from neox_code.errors import DataError
from neox_code.evaluation.execution.judge import Program
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.task import Protocol, Task, TaskInputs, TaskProblem, TaskSample
from neox_code.evaluation.tasks.programs import check_programs

EXAMPLES = (2, 3, 4)
SECONDS = 10.0
TEST_SPLIT = range(11, 511)
FIELDS = {"task_id": int, "text": str, "code": str, "test_list": list, "test_setup_code": str}


def load_mbpp(inputs: TaskInputs) -> list[TaskProblem]:
    """Return the problems of the test split; raise DataError if the file lacks the examples of the prompt."""
    path = inputs.find_file("mbpp/mbpp.jsonl", "https://github.com/google-research/google-research (mbpp)")
    rows = {row["task_id"]: row for row in read_rows(path, FIELDS)}
    missing = [number for number in EXAMPLES if number not in rows]
    if missing:
        raise DataError(
            f"{path} has no task_id {missing[0]}, one of the prompt's three examples. Get the file of all 974 problems."
        )
    examples = "".join(f"{make_question(rows[number])}{rows[number]['code']}\n[DONE]\n\n" for number in EXAMPLES)
    chosen = [row for number, row in rows.items() if number in TEST_SPLIT]
    return [TaskProblem(str(row["task_id"]), examples + make_question(row), fields=row) for row in chosen]


def make_question(row: Mapping[str, Any]) -> str:
    tests = "\n".join(row["test_list"])
    return (
        f"You are an expert Python programmer, and here is your task: {row['text']} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def make_program(problem: TaskProblem, sample: TaskSample) -> Program:
    row = problem.fields
    code = sample.completion if sample.solution is None else sample.solution
    return Program("python", "\n".join([code, row["test_setup_code"], *row["test_list"]]), timeout_seconds=SECONDS)


MBPP = Task("mbpp", load_mbpp, check_programs(make_program), Protocol(stop=("[DONE]",)))
