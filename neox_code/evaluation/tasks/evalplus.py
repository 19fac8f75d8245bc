"""HumanEval+ and MBPP+: the benchmarks with the further inputs and the comparison of evalplus.

    human-eval-plus/HumanEvalPlus.jsonl.gz        https://github.com/evalplus/humanevalplus_release
    mbpp-plus/MbppPlus.jsonl.gz                   https://github.com/evalplus/mbppplus_release
                                                  task_id, prompt, entry_point, canonical_solution, base_input, plus_input, atol

A sample passes if it passes the inputs of the original benchmark (base) and the further ones. pass@k of the base inputs alone is
reported too.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Sequence

from neox_code.evaluation.execution.judge import Program
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.scores import TaskScore, pass_at_k_scores
from neox_code.evaluation.task import (
    CheckSettings,
    Outcome,
    Problems,
    Protocol,
    Task,
    TaskInputs,
    TaskProblem,
    TaskSample,
    count_passes,
)
from neox_code.evaluation.tasks import evalplus_check
from neox_code.evaluation.tasks.programs import execute

FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution"), str),
    **dict.fromkeys(("base_input", "plus_input"), (list, dict)),
    "atol": (int, float),
}
STOP = ("\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ", "\nif __name__", "\nprint(", "\n```")
MEMORY_BYTES = 4 << 30
"""Memory limit of a program, as evalplus' own."""
PROGRAM_SECONDS = 600.0
"""Time limit of a program. The samples' own limits are in `evalplus_check`; the reference runs beside them."""


def load_plus(name: str, repository: str) -> Callable[[TaskInputs], list[TaskProblem]]:
    """Return the function that loads the problems of a file."""

    def load(inputs: TaskInputs) -> list[TaskProblem]:
        rows = read_rows(inputs.find_file(name, f"the releases of https://github.com/evalplus/{repository}"), FIELDS)
        return [TaskProblem(row["task_id"], row["prompt"], fields=row) for row in rows]

    return load


def make_program(problem: TaskProblem, code: str) -> Program:
    row = problem.fields
    number = int(problem.id.rpartition("/")[2]) if problem.id.startswith("Mbpp/") else None
    inputs = [("base", json.dumps(row["base_input"])), ("extra", json.dumps(row["plus_input"]))]
    arguments = row["entry_point"], number, row["prompt"] + row["canonical_solution"], code, inputs, row["atol"]
    source = f"{inspect.getsource(evalplus_check)}\ncheck_inputs{arguments!r}\n"
    return Program("python", source, timeout_seconds=PROGRAM_SECONDS)


def check_plus(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
    """Yield the outcomes; `values` has 1 for `base` if the sample passes the inputs of the original benchmark."""
    programs = [make_program(problems[sample.problem_id], sample.make_code(problems[sample.problem_id])) for sample in samples]
    for execution in execute(programs, settings, memory_bytes=MEMORY_BYTES):
        passed = execution.status == "passed"
        yield Outcome(passed, execution.result, {"base": float(passed or execution.result.startswith("failed: extra"))})


def summarize_plus(problems: Problems, samples: Sequence[TaskSample], outcomes: Sequence[Outcome]) -> list[TaskScore]:
    """Return pass@k with all inputs, and with those of the original benchmark."""
    plus = pass_at_k_scores(count_passes(samples, [bool(outcome.passed) for outcome in outcomes]))
    base = pass_at_k_scores(count_passes(samples, [bool(outcome.values["base"]) for outcome in outcomes]), "base ")
    return plus + base


EVALPLUS = tuple(
    Task(name, load_plus(file, repository), check_plus, Protocol(stop=stop), summarize_plus)
    for name, file, repository, stop in (
        ("humaneval_plus", "human-eval-plus/HumanEvalPlus.jsonl.gz", "humanevalplus_release", STOP),
        (
            "mbpp_plus",
            "mbpp-plus/MbppPlus.jsonl.gz",
            "mbppplus_release",
            ('\n"""', "\nassert", "\nif __name__", "\nprint(", "\n```"),
        ),
    )
)
