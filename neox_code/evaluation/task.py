"""A benchmark: problems, a protocol by which a model answers them, a check of the answers, and scores.

    task = find_task("humaneval")                        # registry.py
    problems = task.load_problems(TaskInputs(data=Path("benchmarks")))
    outcomes = task.check({problem.id: problem for problem in problems}, samples, CheckSettings())
    scores = task.summarize(...)

A benchmark is a module in tasks/ with such functions, and a row in the registry. `ModelTask` is for measures that need the model
itself, such as bits per byte.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.scores import TaskScore, pass_at_k_scores
from neox_code.generation.loading import LoadedModel
from neox_code.logs import Advance


@dataclass(frozen=True)
class TaskInputs:
    """The places that a task's problems come from."""

    data: Path | None = None
    """Folder with a folder for each benchmark."""
    problem_file: Path | None = None
    """File that replaces the benchmark's own."""
    limit: int | None = None
    """Maximum number of problems. The runner applies it after `load_problems`; a task that makes its problems can stop there."""
    seed: int = 0
    config: NeoXConfig | None = None
    """The whole configuration; None if there is no model, only a file of samples."""

    def find_file(self, name: str, source: str) -> Path:
        """Return the path of a benchmark's file, whose path in the data folder is `name`; `source` is where a user gets it.

        Raise ConfigError if no place is configured, DataError if the file is missing.
        """
        remedy = f"Get it from {source}, as {name} in that folder, or name the file by --problem-file."
        if self.problem_file is not None:
            if not self.problem_file.is_file():
                raise DataError(f"{self.problem_file} (eval_problem_file) does not exist. Check the path.")
            return self.problem_file
        if self.data is None:
            raise ConfigError(
                f"eval_data is not set: {name} is not found. Name the folder of the benchmarks by --data DIR. {remedy}"
            )
        if not (self.data / name).is_file():
            raise DataError(f"{self.data / name} does not exist (eval_data is {self.data}). {remedy}")
        return self.data / name


@dataclass(frozen=True)
class TaskProblem:
    id: str
    """Its id in the benchmark's file."""
    prompt: str
    suffix: str | None = None
    """Text after the missing part, for infilling."""
    stop: tuple[str, ...] = ()
    """Texts at which a completion ends, beside those of the protocol."""
    stop_rules: tuple[str, ...] = ()
    maximum_tokens: int | None = None
    """Maximum number of tokens of a completion; None for that of the protocol."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The row of the benchmark's file."""


@dataclass(frozen=True)
class TaskSample:
    problem_id: str
    index: int
    """Index of the sample among the samples of its problem, from 0."""
    completion: str
    solution: str | None = None
    """A whole program, if the sample's file has one in place of a completion of the prompt."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row of the sample's file."""

    def make_code(self, problem: TaskProblem) -> str:
        """Return the prompt with its completion, or the whole program."""
        return problem.prompt + self.completion + (problem.suffix or "") if self.solution is None else self.solution


@dataclass(frozen=True)
class Outcome:
    """The result of the check of one sample."""

    passed: bool | None
    """None if the task measures and does not decide."""
    result: str = ""
    """`passed`, `timed out`, or `failed: ` with the reason."""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """How a model is asked. It is written beside every score; a generation key that the configuration sets has priority."""

    temperature: float = 0.0
    top_p: float = 0.0
    samples_per_prompt: int = 1
    maximum_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_rules: tuple[str, ...] = ()
    token_healing: bool = False
    strip_prompt: bool = False
    """True: whitespace at both ends of the prompt is removed."""
    strip_end: bool = False
    """True: whitespace at the end of the completion is removed."""


@dataclass(frozen=True)
class CheckSettings:
    """Settings of a check that runs programs."""

    weak_sandbox: bool = False
    """True: programs run even if the kernel lacks a part of the sandbox."""
    workers: int | None = None
    timeout_seconds: float | None = None
    """Time limit of a program; None for that of the benchmark."""
    advance: Advance | None = None
    """Receives the number of samples that are done."""


Problems = Mapping[str, TaskProblem]
"""Problem id -> problem, in the order of the benchmark's file."""


def summarize_passes(problems: Problems, samples: Sequence[TaskSample], outcomes: Sequence[Outcome]) -> list[TaskScore]:
    """Return pass@k over the problems that have samples."""
    return pass_at_k_scores(count_passes(samples, [bool(outcome.passed) for outcome in outcomes]))


def count_passes(samples: Sequence[TaskSample], passed: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the number of samples and of passed samples of each problem with samples."""
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for sample, is_passed in zip(samples, passed, strict=True):
        by_problem[sample.problem_id].append(is_passed)
    return [(len(each), sum(each)) for each in by_problem.values()]


def average(samples: Sequence[TaskSample], outcomes: Sequence[Outcome], name: str) -> list[float]:
    """Return for each problem with samples the mean of one of their values."""
    by_problem: dict[str, list[float]] = defaultdict(list)
    for sample, outcome in zip(samples, outcomes, strict=True):
        by_problem[sample.problem_id].append(outcome.values[name])
    return [sum(each) / len(each) for each in by_problem.values()]


@dataclass(frozen=True)
class Task:
    """A benchmark whose problems a model completes."""

    name: str
    load_problems: Callable[[TaskInputs], list[TaskProblem]]
    """Raise DataError if the file is missing or damaged."""
    check: Callable[[Problems, Sequence[TaskSample], CheckSettings], Iterator[Outcome]]
    """Yield the outcomes in the order of the samples."""
    protocol: Protocol = Protocol()
    summarize: Callable[[Problems, Sequence[TaskSample], Sequence[Outcome]], list[TaskScore]] = summarize_passes
    measure: Callable[[LoadedModel, Problems, str], list[TaskScore]] | None = None
    """Returns further scores that need the model's probabilities; the last argument is `infilling_order`."""


@dataclass(frozen=True)
class Measurement:
    """The result of a ModelTask."""

    scores: list[TaskScore]
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further figures as JSON."""
    rows: Sequence[Mapping[str, Any]] = ()
    """Rows of the file TASK_files.jsonl."""


@dataclass(frozen=True)
class ModelTask:
    """A measure that needs the model's probabilities and not its completions."""

    name: str
    measure: Callable[[LoadedModel, TaskInputs], Measurement]
    """`inputs.config` is set."""
