"""GDScript: godot-dodo's 50 prompts, scored by syntax, functionality and verbosity without a person.

    godot-dodo/responses.jsonl        prompt: a row or more for each        https://github.com/minosvasilias/godot-dodo (models)

A sample is a response: {"task_id": PROMPT, "completion": TEXT}, or {"prompt": PROMPT, "response": TEXT} as published. It passes if
all three scores are good. Where every row has hand scores (syntax, functionality, verbosity: true or false), the agreement with
them and Cohen's kappa are reported too.
"""

from collections.abc import Iterator, Mapping, Sequence

from neox_code.errors import DataError
from neox_code.evaluation.execution.language_files import find_missing_program
from neox_code.evaluation.gdscript.extraction import extract_code
from neox_code.evaluation.gdscript.reference_checks import (
    find_missing,
    has_fitting_length,
    load_checks,
    make_key,
    make_marker,
    read_result,
    select_runs,
)
from neox_code.evaluation.gdscript.syntax import find_problems
from neox_code.evaluation.sample_files import read_rows
from neox_code.evaluation.scores import TaskScore, mean_score
from neox_code.evaluation.task import CheckSettings, Outcome, Problems, Protocol, Task, TaskInputs, TaskProblem, TaskSample, average
from neox_code.evaluation.tasks.programs import execute
from neox_code.logs import get_logger

log = get_logger(__name__)

CRITERIA = ("syntax", "functionality", "verbosity")

TEMPLATE = (
    "Below is an instruction that describes a GDScript coding task. Write code that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
"""The prompt with which godot-dodo's models were trained."""


def load_prompts(inputs: TaskInputs) -> list[TaskProblem]:
    """Return the problems, whose ids are the prompts. Raise DataError for a prompt that has no reference check."""
    path = inputs.find_file("godot-dodo/responses.jsonl", "https://github.com/minosvasilias/godot-dodo (models)")
    prompts = dict.fromkeys(row["prompt"] for row in read_rows(path, {"prompt": str}))
    for prompt in prompts:
        if make_key(prompt) not in load_checks():
            raise DataError(f"{path}: {prompt[:60]!r} is none of godot-dodo's 50 prompts, and nothing is known to check it by.")
    return [TaskProblem(prompt, TEMPLATE.format(instruction=prompt), fields={"prompt": prompt}) for prompt in prompts]


def check_responses(problems: Problems, samples: Sequence[TaskSample], settings: CheckSettings) -> Iterator[Outcome]:
    """Yield the outcomes of responses by all three criteria, with the first reason of each that failed."""
    codes = [extract_code(sample.completion or sample.solution or "") for sample in samples]
    checks = [load_checks()[make_key(sample.problem_id)] for sample in samples]
    ran = run_codes(codes, checks, settings)
    for index, (sample, code, check) in enumerate(zip(samples, codes, checks, strict=True)):
        problems_of_syntax = find_problems(code, sample.problem_id)
        missing = find_missing(code, check)
        result = ran.get(index)
        reasons = {
            "syntax": problems_of_syntax[:1],
            "functionality": ["the run gave another result"] if result is False else missing[:1],
            "verbosity": [] if has_fitting_length(code, check) else ["longer than the task needs"],
        }
        failed = "; ".join(f"{name}: {texts[0]}" for name, texts in reasons.items() if texts)
        values = {name: float(not texts) for name, texts in reasons.items()}
        values |= {"flawless": float(not failed), "ran": float(result is not None)}
        if settings.advance is not None:
            settings.advance(1)
        yield Outcome(not failed, f"failed: {failed}" if failed else "passed", values)


def run_codes(codes: Sequence[str], checks: Sequence[Mapping[str, object]], settings: CheckSettings) -> dict[int, bool]:
    """Return the results of the codes that need no scene and run in Godot 3, by their index."""
    marker = make_marker()
    runs = dict(select_runs(codes, checks, marker))
    if runs and (program := find_missing_program("gdscript")) is not None:
        log.warning("gdscript | %s is not installed: functionality is checked by the text of the code alone", program)
        return {}
    executions = execute(list(runs.values()), settings, counts=False)
    results = {index: read_result(each.stdout, checks[index], marker) for index, each in zip(runs, executions, strict=True)}
    return {index: result for index, result in results.items() if result is not None}


def summarize(problems: Problems, samples: Sequence[TaskSample], outcomes: Sequence[Outcome]) -> list[TaskScore]:
    scores = [mean_score(name, average(samples, outcomes, name)) for name in (*CRITERIA, "flawless")]
    for name in CRITERIA:
        if all(isinstance(sample.row.get(name), bool) for sample in samples):
            pairs = [(bool(each.values[name]), sample.row[name]) for each, sample in zip(outcomes, samples, strict=True)]
            scores.append(mean_score(f"{name}: agreement with the hand scores", [float(ours == hand) for ours, hand in pairs]))
            scores.append(TaskScore(f"{name}: kappa", compute_kappa(pairs), None, len(pairs)))
    return scores


def compute_kappa(pairs: Sequence[tuple[bool, bool]]) -> float:
    """Return Cohen's kappa of two raters: 1 for equal ratings, 0 for the agreement of chance.

    >>> compute_kappa([(True, True), (True, False), (False, False), (False, False)])
    0.5
    """
    count = len(pairs)
    agreement = sum(ours == hand for ours, hand in pairs) / count
    ours, hand = (sum(pair[side] for pair in pairs) / count for side in (0, 1))
    chance = ours * hand + (1 - ours) * (1 - hand)
    return (agreement - chance) / (1 - chance) if chance < 1 else 1.0


GDSCRIPT = Task("gdscript", load_prompts, check_responses, Protocol(temperature=0.1, top_p=0.75, stop=("\n### ",)), summarize)
