"""Check samples by running one program for each: `check=check_programs(make_program)` in the row of a task."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from neox_code.errors import NeoXError
from neox_code.evaluation.execution.judge import Execution, Program, run_programs
from neox_code.evaluation.task import CheckSettings, Outcome, Problems, TaskProblem, TaskSample

MakeProgram = Callable[[TaskProblem, TaskSample], Program]


def check_programs(make_program: MakeProgram) -> Callable[[Problems, Sequence[TaskSample], CheckSettings], Iterator[Outcome]]:
    """Return the check of a task whose samples pass if their program reaches its end."""

    def check(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
        programs = [make_program(problems[sample.problem_id], sample) for sample in samples]
        for execution in execute(programs, settings):
            yield Outcome(execution.status == "passed", execution.result)

    return check


def execute(
    programs: Sequence[Program], settings: CheckSettings, counts: bool = True, memory_bytes: int = 2 << 30
) -> Iterator[Execution]:
    """Run programs with the settings of a check, and yield their executions in order.

    With `counts` each is one sample for the progress. Raise NeoXError for a language that is not installed.
    """
    if settings.timeout_seconds is not None:
        programs = [dataclasses.replace(program, timeout_seconds=settings.timeout_seconds) for program in programs]
    advance = settings.advance if counts else None
    for execution in run_programs(programs, settings.workers, settings.weak_sandbox, memory_bytes, advance):
        if execution.status == "refused":
            raise NeoXError(f"{execution.result}. Install it, or leave the task out.")
        yield execution
