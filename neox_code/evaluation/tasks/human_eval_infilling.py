"""HumanEval-Infilling (Bavarian et al. 2022): one line, several lines or a random span of a solution are missing.

    human-eval-infilling/HumanEval-SingleLineInfilling.jsonl.gz, ...-MultiLineInfilling, ...-RandomSpanInfilling,
    ...-RandomSpanInfillingLight          task_id, prompt, suffix, canonical_solution, test, entry_point

A sample stands between prompt and suffix; the tests stand below. A model without infilling tokens reads the prompt alone, and its
completion ends where it meets the suffix.
"""

from collections.abc import Callable, Iterator, Sequence

from neox_code.evaluation.execution.judge import Program
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
from neox_code.evaluation.tasks.programs import check_programs

FIELDS = {"task_id": str, "prompt": str, "suffix": str, "canonical_solution": str, "test": str, "entry_point": str}
SOURCE = "https://github.com/openai/human-eval-infilling (data)"
EXACT = "exact_match"
FILES = {
    "humaneval_single_line_infilling": "SingleLineInfilling",
    "humaneval_multi_line_infilling": "MultiLineInfilling",
    "humaneval_random_span_infilling": "RandomSpanInfilling",
    "humaneval_random_span_infilling_light": "RandomSpanInfillingLight",
}
"""Name of the task, as in lm-evaluation-harness -> part of its file's name."""


def make_infilling_task(name: str, file_kind: str) -> Task:
    """Return a task. A missing line is completed up to its end, which the sample need not contain."""
    end = "\n" if "single_line" in name else ""
    file = f"human-eval-infilling/HumanEval-{file_kind}.jsonl.gz"

    def load_problems(inputs: TaskInputs) -> list[TaskProblem]:
        rows = read_rows(inputs.find_file(file, SOURCE), FIELDS)
        return [TaskProblem(row["task_id"], row["prompt"], row["suffix"], fields=row) for row in rows]

    def make_program(problem: TaskProblem, sample: TaskSample) -> Program:
        row, middle = problem.fields, add_end(sample.completion, end)
        code = sample.solution or f"{problem.prompt}{middle}{problem.suffix}"
        return Program("python", f"{code}\n{row['test']}\ncheck({row['entry_point']})")

    stop = ("\n",) if end else ()
    check = with_exact_match(check_programs(make_program), end)
    return Task(name, load_problems, check, Protocol(stop=stop, maximum_tokens=256), summarize_infilling)


def add_end(completion: str, end: str) -> str:
    return completion if completion.endswith(end) else completion + end


def with_exact_match(
    check: Callable[[Problems, Sequence[TaskSample], CheckSettings], Iterator[Outcome]], end: str
) -> Callable[[Problems, Sequence[TaskSample], CheckSettings], Iterator[Outcome]]:
    """Return a check that also compares each sample with the text that is missing."""

    def check_and_compare(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
        for sample, outcome in zip(samples, check(problems, samples, settings), strict=True):
            is_exact = add_end(sample.completion, end) == problems[sample.problem_id].fields["canonical_solution"]
            yield Outcome(outcome.passed, outcome.result, {EXACT: float(is_exact)})

    return check_and_compare


def summarize_infilling(problems: Problems, samples: Sequence[TaskSample], outcomes: Sequence[Outcome]) -> list[TaskScore]:
    exact = mean_score("exact match", [outcome.values[EXACT] for outcome in outcomes])
    return [*summarize_passes(problems, samples, outcomes), exact]


HUMAN_EVAL_INFILLING = tuple(make_infilling_task(*names) for names in FILES.items())
